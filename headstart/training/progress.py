"""Progress of a step: a bar on a terminal, records for a supervising process, sparse lines in a log."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

# A line that starts with this character is a progress record in JSON, for the process that reads a step's output.
RECORD = "\x1e"

# Set to "records" by a process that reads this one's output and draws the progress itself.
PROGRESS_VARIABLE = "HEADSTART_PROGRESS"

_LOG_EVERY_SECONDS = 15.0

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Show that `done` of `total` parts of the work `label` are done."""

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None: ...


def progress() -> Progress:
    """The progress display that suits where the output goes."""
    if os.environ.get(PROGRESS_VARIABLE) == "records":
        return _Records()
    if sys.stderr.isatty():
        return _Bar()
    return _Lines()


def write_record(values: Mapping[str, Any]) -> None:
    """Print a record for the process that reads this one's output, in one piece: others may print there too."""
    sys.stdout.write(f"{RECORD}{json.dumps(values)}\n")
    sys.stdout.flush()


class _Records:
    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        write_record({"label": label, "done": done, "total": total, "note": note})


class _Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        if label not in self._tasks:
            self._bar.start()
            self._tasks[label] = self._bar.add_task(label, total=total, note=note)
        self._bar.update(self._tasks[label], completed=done, note=note)
        if done >= total:
            self._bar.stop()


class _Lines:
    def __init__(self) -> None:
        self._last: float | None = None

    def __call__(self, label: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self._last is None or done >= total or now - self._last >= _LOG_EVERY_SECONDS:
            self._last = now
            log.info("%s %d/%d %s", label, done, total, note)
