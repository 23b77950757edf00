"""One bash in which commands run one after the other, as in a terminal: variables and background jobs stay."""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Outcome:
    """What a command printed, on both of its streams, and its exit status; None if it did not end in time."""

    status: int | None
    output: str


class Shell:
    """A bash in `folder`. At its end all that it started is ended, background jobs too."""

    def __init__(self, folder: Path, environment: Mapping[str, str], heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],  # noqa: S607 (the user's own)
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A group of its own, which is ended as a whole.
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._bash.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._bash.wait(10)

    def run(self, command: str, seconds: float) -> Outcome:
        """Runs a command to its end, at most that long."""
        mark = uuid.uuid4().hex
        assert self._bash.stdin
        # Nothing may read the commands that follow.
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n")
        self._bash.stdin.flush()
        deadline = time.monotonic() + seconds
        output: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return Outcome(None, "".join(output))
            if line is None:
                return Outcome(self._bash.wait(), "".join(output))
            if line.startswith(mark):
                return Outcome(int(line.split()[1]), "".join(output).removesuffix("\n"))
            output.append(line)
            self._heard(line)

    def _read(self) -> None:
        assert self._bash.stdout
        for line in self._bash.stdout:
            self._lines.put(line)
        self._lines.put(None)
