"""Watchdog: ends a command's child processes when the command ends, even by kill -9.

The command holds one end of a pipe and the watchdog process the other, so the pipe closes whatever ends the command.
The watchdog then ends every process with the command's mark in its environment, which children inherit, including
workers in sessions of their own and orphans.
"""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psutil

# Environment variable with the mark; containers of a run have it as a label too.
MARK_VARIABLE = "HEADSTART_WATCHED"
LABEL = "headstart.watched"

# Time for a step to write its checkpoint and end its MLflow run.
_GRACE_SECONDS = 2.0


@contextlib.contextmanager
def watched(*, containers: bool = False) -> Iterator[dict[str, str]]:
    """Yield the variables that mark child processes as this command's; marked processes end with the command.

    Args:
        containers: also remove containers with the label `headstart.watched`.
    """
    mark = uuid.uuid4().hex
    # -P keeps modules in the user's working directory from being imported.
    command = [sys.executable, "-P", "-m", "headstart_pipelines.watchdog", mark]
    if containers:
        command.append("--containers")
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Own session, so that the watchdog survives the end of the terminal's.
        start_new_session=True,
    ) as watchdog:
        try:
            yield {MARK_VARIABLE: mark}
        finally:
            watchdog.kill()


def main(mark: str, *options: str) -> None:
    """Wait for the end of standard input, then end all processes with `mark`."""
    os.chdir("/")
    sys.stdin.buffer.read()
    _end_processes(mark)
    if options:
        _remove_containers(mark)


def _end_processes(mark: str) -> None:
    def bears_mark(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.environ().get(MARK_VARIABLE) == mark
        return False

    def marked() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if bears_mark(process)]

    found = marked()
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(found, timeout=_GRACE_SECONDS)
    # Repeated until none is found, because a dying process may still start others.
    while found := marked():
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_GRACE_SECONDS)


def _remove_containers(mark: str) -> None:
    import docker

    with contextlib.closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={mark}"}):
            # Removed, or being removed.
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
