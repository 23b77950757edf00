"""The MLflow page on a workspace's store, quietly."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from headstart.errors import HeadstartError, InputError
from headstart.signals import exiting_when_terminated
from headstart_pipelines.watchdog import watched

_PATIENCE_SECONDS = 60.0


def serve(store: str, port: int, log: Path, ready: Callable[[], None]) -> None:
    """Runs MLflow's server on `store` until it is interrupted or terminated; calls `ready` once it answers.

    Raises:
        InputError: the port is taken.
        HeadstartError: the server ended by itself or did not answer.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(f"Port {port} is taken on this machine; choose another with --port.") from None
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        # Eight processes and 1.3 GiB for jobs that judge language models, which nothing here asks for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        # Not on the command line, which every user of the machine can read: a database's URI holds a password.
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (
        exiting_when_terminated(),
        watched() as mark,
        log.open("w") as file,
        # A session of its own: Ctrl-C reaches only this process, which then ends the server and its worker in order.
        subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**environment, **mark}, start_new_session=True
        ) as server,
    ):
        try:
            _wait_until_healthy(server, port, log)
            ready()
            server.wait()
        except KeyboardInterrupt:
            return
        finally:
            _end(server)
    raise HeadstartError(f"The MLflow server ended by itself; its log is {log}.")


def _end(server: "subprocess.Popen[bytes]") -> None:
    """Ends the server with its workers; its parent process does not pass on a signal and may wait for ever."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=3)
            return


def _wait_until_healthy(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise HeadstartError(f"The MLflow server did not start; its log is {log}.")
