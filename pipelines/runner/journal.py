"""The journal of a local run: the log file, and what a person is shown step by step."""

import json
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TextIO

from headstart.training.progress import RECORD

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Exit|Interrupt)): (.*)")
_LOGGED = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \w+\]: ")


class Display(Protocol):
    """Who shows a run's steps; threads call it."""

    def opened(self, run: str, log: Path) -> None: ...
    def began(self, total: int) -> None: ...
    def started(self, step: str) -> None: ...
    def progressed(self, step: str, label: str, done: int, total: int, note: str = "") -> None: ...
    def finished(self, step: str, seconds: float) -> None: ...
    def reused(self, step: str) -> None: ...
    def failed(self, step: str, seconds: float) -> None: ...
    def logged(self, line: str) -> None: ...


class Journal:
    """What the steps of one run write and how they end, in `file` and on `display`. Threads share it.

    Args:
        file: the log; several steps write to it at once, so each line begins with its step's name.
        display: None to show nothing.
    """

    def __init__(self, file: TextIO, display: Display | None) -> None:
        self._file, self._display = file, display
        self._lock = threading.Lock()
        self._running: dict[int, Entry] = {}
        self._failures: list[tuple[str, str]] = []
        self._interrupted = False
        self.reused: list[str] = []
        self.runs_behind: dict[str, list[str]] = {}

    def begin(self, pipeline: str, total: int) -> None:
        """Say that a pipeline of `total` steps begins."""
        self.say(f"Running pipeline '{pipeline}'")
        if self._display:
            self._display.began(total)

    def step(self, key: str, name: str) -> "Entry":
        """Begin the entry of the task `key`, which people know as `name`."""
        entry = Entry(self, key, name)
        self._running[id(entry)] = entry
        if not self._interrupted:
            self.say(f"Executing task '{key}'", name)
            if self._display:
                self._display.started(name)
        return entry

    def take_over(self, key: str, name: str, runs: Sequence[str] = ()) -> None:
        """Say that the results of earlier `runs`, ids of MLflow's, were taken over."""
        self.say(f"Task '{key}' is reused", name)
        # Kept and shown in the same order, whatever other threads take over.
        with self._lock:
            self.reused.append(name)
            self.runs_behind[name] = list(runs)
            if self._display:
                self._display.reused(name)

    def say(self, text: str, name: str = "") -> None:
        """Write a line of the runner's own."""
        self.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')},000 INFO]: {text}", name)

    def write(self, line: str, name: str = "") -> None:
        """Write a line that the step `name` wrote."""
        line = f"{name} | {line}" if name else line
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self._file.flush()
        if self._display:
            self._display.logged(line)

    def progressed(self, name: str, label: str, done: int, total: int, note: str) -> None:
        """Show how far a step is."""
        if self._display:
            self._display.progressed(name, label, done, total, note)

    def end(self, entry: "Entry", status: int) -> None:
        """End a step's entry."""
        self._running.pop(id(entry), None)
        seconds = time.monotonic() - entry.began
        self.say(f"Task '{entry.key}' finished with status {'SUCCESS' if status == 0 else 'FAILURE'}", entry.name)
        if status != 0:
            self._failures.append((entry.name, entry.reason(status)))
        if self._display:
            (self._display.finished if status == 0 else self._display.failed)(entry.name, seconds)

    def interrupt(self) -> None:
        """Show no further steps as started."""
        self._interrupted = True

    def close(self) -> None:
        """Mark the steps that are still shown as running as failed."""
        for entry in list(self._running.values()):
            self._running.pop(id(entry))
            if self._display:
                self._display.failed(entry.name, time.monotonic() - entry.began)

    def explain(self, log: Path) -> str:
        """The reason of the first failure."""
        step, reason = self._failures[0]
        return f"{step} failed: {reason}\nThe complete log is {log}."


class Entry:
    """What one step writes: to the log, and, if it is about progress, to the display."""

    def __init__(self, journal: Journal, key: str, name: str) -> None:
        self.key, self.name, self.began = key, name, time.monotonic()
        self._journal = journal
        self._errors: list[str] = []
        self._last = ""

    def read(self, line: str) -> None:
        """Take one line, with or without its end."""
        line = _COLOR.sub("", line.rstrip("\r\n"))
        # Spaces only, because the marker of a record counts as white space itself.
        record = line.strip(" ")
        if record.startswith(RECORD):
            values = json.loads(record.removeprefix(RECORD))
            self._journal.progressed(self.name, values["label"], values["done"], values["total"], values["note"])
            return
        self._journal.write(line, self.name)
        if match := _ERROR.match(record):
            self._errors.append(match[2] if match[1] in ("InputError", "HeadstartError") else record)
        elif record and not _LOGGED.match(record):
            self._last = record

    def end(self, status: int) -> None:
        """End the entry with the step's exit status."""
        self._journal.end(self, status)

    def reason(self, status: int) -> str:
        """Why the step failed: its last exception, else its last line, else its exit status."""
        return self._errors[-1] if self._errors else self._last or f"its process ended with exit status {status}."
