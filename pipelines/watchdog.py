"""Processes that end with the command that began them, however that ends: by kill -9 too, which it cannot answer.

The command holds one end of a pipe and a process of its own, the watchdog, the other. Whatever ends the command closes
the pipe. The watchdog then ends every process that bears the command's mark in its environment, which children hand on
to theirs: workers in sessions of their own as well, and those whose parent is gone.
"""

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psutil

# Its value is the mark; containers of a run have it as a label, too.
MARK_VARIABLE = "HEADSTART_WATCHED"
LABEL = "headstart.watched"

# For a step to write its checkpoint and to end its MLflow run.
_GRACE_SECONDS = 2.0


@contextlib.contextmanager
def watched(*, containers: bool = False) -> Iterator[dict[str, str]]:
    """Give the variables that mark processes as this command's while the body runs; they end with it.

    Args:
        containers: whether there are containers with the label `headstart.watched`, to be removed likewise.
    """
    mark = uuid.uuid4().hex
    # -P: modules in the folder where the user is are not the watchdog's.
    command = [sys.executable, "-P", "-m", "headstart_pipelines.watchdog", mark]
    if containers:
        command.append("--containers")
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A session of its own: it outlives what ends the terminal's.
        start_new_session=True,
    ) as watchdog:
        try:
            yield {MARK_VARIABLE: mark}
        finally:
            watchdog.kill()


def main(mark: str, *options: str) -> None:
    """Wait for the end of standard input, then end what bears `mark`."""
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
    # Again until nothing is found: what is about to die may still begin something.
    while found := marked():
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_GRACE_SECONDS)


def _remove_containers(mark: str) -> None:
    import docker

    with contextlib.closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={mark}"}):
            # Gone, or going.
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
