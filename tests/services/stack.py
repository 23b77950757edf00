"""What a team's record stands on: an MLflow server with passwords on PostgreSQL, its artifacts proxied to SeaweedFS."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services.servers import Postgres, Process, SeaweedFS, answers, free_ports, write_secret

_AUTHENTICATION = """\
[mlflow]
default_permission = READ
database_uri = {database}
admin_username = admin
admin_password = {password}
# Without it every request pays for the slow hash of the password.
auth_cache_ttl_seconds = 60
"""


@dataclass
class Stack:
    """The running servers and what a client needs to use them."""

    home: Path
    port: int
    bucket: str
    postgres: Postgres = field(repr=False)
    seaweedfs: SeaweedFS = field(repr=False)
    password: str = field(repr=False)
    """The password of MLflow's user `admin`."""
    server_environment: dict[str, str] = field(repr=False)
    _mlflow: Process | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """The address of the MLflow server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client reaches the record."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    @property
    def s3_environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches the store behind the server; users of the record have none of them."""
        return dict(self.seaweedfs.environment)

    @property
    def s3_endpoint(self) -> str:
        return self.seaweedfs.environment["AWS_ENDPOINT_URL"]

    @property
    def s3(self) -> Any:
        """A boto3 client of the store behind the server."""
        return self.seaweedfs.client

    def objects(self) -> dict[str, bytes]:
        """Every object in the bucket, by its key."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    @property
    def log(self) -> str:
        """All that the MLflow server has printed."""
        return (self.home / "mlflow.log").read_text(errors="replace")

    def launch_mlflow(self) -> None:
        """Starts the server at its address without waiting for it."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "2", "--app-name", "basic-auth", "--artifacts-destination", f"s3://{self.bucket}",
        ]  # fmt: skip
        self._mlflow = Process("mlflow", command, self.home, environment=self.server_environment)

    def start_mlflow(self) -> None:
        """Starts the server at its address and waits until it answers."""
        self.launch_mlflow()
        self.wait_for_mlflow()

    def wait_for_mlflow(self) -> None:
        assert self._mlflow, "the server was not launched"
        self._mlflow.wait_until(lambda: answers(f"{self.uri}/health"))

    def stop_mlflow(self) -> None:
        """Stops the server; the database, the objects and the address stay."""
        if self._mlflow:
            self._mlflow.stop()

    def restart_mlflow(self) -> None:
        self.stop_mlflow()
        self.start_mlflow()


@contextmanager
def running_stack() -> Iterator[Stack]:
    """Starts the servers, and stops them and removes their files whatever happens."""
    # Not in pytest's folder: PostgreSQL's user may not enter it.
    with ExitStack() as stop:
        home = Path(tempfile.mkdtemp(prefix="headstart-stack-"))
        stop.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o711)
        seaweedfs = SeaweedFS(home / "seaweedfs")
        stop.callback(seaweedfs.stop)
        postgres = Postgres(home / "postgres")
        stop.callback(postgres.stop)
        postgres.wait()
        password = secrets.token_urlsafe(24)
        users = _AUTHENTICATION.format(database=postgres.create("users"), password=password)
        stack = Stack(
            home=home,
            port=free_ports(1)[0],
            bucket="record",
            postgres=postgres,
            seaweedfs=seaweedfs,
            password=password,
            server_environment=seaweedfs.environment
            | {
                # In the environment, not on the command line, which every user of the machine can read.
                "MLFLOW_BACKEND_STORE_URI": postgres.create("record"),
                "MLFLOW_AUTH_CONFIG_PATH": str(write_secret(home / "users.ini", users)),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
                "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
        )
        stop.callback(stack.stop_mlflow)
        stack.launch_mlflow()
        seaweedfs.create(stack.bucket)
        stack.wait_for_mlflow()
        yield stack
