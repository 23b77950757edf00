"""Steps as processes on this machine."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from headstart_pipelines.execution import executed_by

_TERMINATED = 128 + signal.SIGTERM


def processes(on_interrupt: Callable[[], None]) -> AbstractContextManager[None]:
    """Make kfp.local's SubprocessRunner run steps by `Processes`, and ends them when this process is interrupted.

    kfp.local's own way shares the terminal's signals with its steps and then starts the next one.
    """
    from kfp.local import subprocess_task_handler

    return executed_by(Processes(), subprocess_task_handler, "run_local_subprocess", on_interrupt)


@dataclass
class Processes:
    """The processes of one pipeline run."""

    _running: list["subprocess.Popen[str]"] = field(default_factory=list)
    _stopped: bool = False

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Runs a step, prints what it writes line by line and returns its exit status."""
        if self._stopped:
            return _TERMINATED
        with subprocess.Popen(
            full_command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            errors="replace",
            env={**os.environ, **(env_vars or {})},
            # A group of its own: a signal then reaches the shell and the step in it, and only when it is meant to.
            start_new_session=True,
        ) as process:
            self._running.append(process)
            if self._stopped:
                _signal(process, signal.SIGTERM)
            try:
                for line in process.stdout or ():
                    print(line, end="")
                status = process.wait()
                # Of the shell itself, or of what it ran.
                if status in (-signal.SIGKILL, 128 + signal.SIGKILL) and not self._stopped:
                    print("MemoryError: the step was killed, most likely because memory ran out.")
                return status
            finally:
                self._running.remove(process)

    def stop(self) -> None:
        """Terminates the step that runs, which then ends its MLflow run; kills it when called again.

        Not SIGINT: what a shell starts in the background ignores that, and so would the step.
        """
        number = signal.SIGKILL if self._stopped else signal.SIGTERM
        self._stopped = True
        for process in list(self._running):
            _signal(process, number)


def _signal(process: "subprocess.Popen[str]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
