"""Reader of kfp.local's output: written to the log, and shown step by step."""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from headstart.training.progress import RECORD

if TYPE_CHECKING:
    from headstart_pipelines.display import Steps


_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_EXECUTING = re.compile(r" - INFO - Executing task '([\w-]+)'")
_REUSED = re.compile(r" - INFO - Task ([\w-]+) cache hit")
_ENDED = re.compile(r" Task '([\w-]+)' finished with status (\w+)")
_KFP = re.compile(r" - (INFO|WARNING|ERROR) - ")
_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Exit|Interrupt)): (.*)")


@dataclass
class StepReader:
    """Replacement of stdout for kfp.local: writes the log and forwards the meaning of its lines to the display."""

    file: TextIO
    display: "Steps"
    names: dict[str, list[str]]
    """display names of each task, one for each iteration"""
    reused: list[str] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    _step: str | None = None
    _start: float = 0.0
    _rest: str = ""
    _errors: list[str] = field(default_factory=list)
    _last: str = ""
    _failures: list[tuple[str, list[str]]] = field(default_factory=list)
    _interrupted: bool = False

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Take text in any pieces and process it line by line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._read(_COLOR.sub("", line))
        return len(text)

    def flush(self) -> None:
        """Flush the file if it is still open; kfp's log handler outlives the run."""
        if not self.file.closed:
            self.file.flush()

    def isatty(self) -> bool:
        """Return False: the output is read by this program."""
        return False

    def interrupt(self) -> None:
        """Show no further steps as started: after an interrupt, kfp.local still announces steps, but none
        of them runs."""
        self._interrupted = True

    def close(self) -> None:
        """Mark a step that is still shown as running as failed."""
        if self._step:
            self.display.failed(self._step, time.monotonic() - self._start)
            self._step = None

    def explain(self, error: BaseException, log: Path) -> str:
        """Return the reason of the first failure: the step's last exception, else its last line, else kfp.local's
        message.

        It need not be the last step that ran, because kfp.local continues with independent steps.
        """
        step, errors = self._failures[0] if self._failures else (self._step or "the pipeline", self._errors)
        reason = errors[-1] if errors else _COLOR.sub("", str(error.__cause__ or error))
        return f"{step} failed: {reason}\nThe complete log is {log}."

    def _read(self, line: str) -> None:
        # Spaces only, because the marker of a record counts as white space itself.
        record = line.strip(" ")
        if record.startswith(RECORD):
            values = json.loads(record.removeprefix(RECORD))
            self.display.progressed(values["label"], values["done"], values["total"], values["note"])
            return
        self.file.write(line + "\n")
        self.display.logged(line)
        if match := _EXECUTING.search(line):
            if not self._interrupted:
                self._begin(self._name(match[1]))
        elif match := _REUSED.search(line):
            step = self._name(match[1])
            self.reused.append(step)
            self.display.reused(step)
        elif (match := _ENDED.search(line)) and self._step:
            seconds = time.monotonic() - self._start
            if match[2] == "SUCCESS":
                self.display.finished(self._step, seconds)
            else:
                self.display.failed(self._step, seconds)
                self._failures.append((self._step, self._errors or ([self._last] if self._last else [])))
            self._step = None
        elif match := _ERROR.match(record):
            self._errors.append(match[2] if match[1] in ("InputError", "HeadstartError") else record)
        elif record and not _KFP.search(line):
            self._last = record

    def _begin(self, step: str) -> None:
        self._start, self._errors, self._last, self._step = time.monotonic(), [], "", step
        self.display.started(step)

    def _name(self, task: str) -> str:
        index = self._seen.get(task, 0)
        self._seen[task] = index + 1
        names = self.names.get(task, [])
        return names[index] if index < len(names) else task.replace("-", " ")
