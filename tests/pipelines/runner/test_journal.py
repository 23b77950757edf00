"""What a person sees of a run, and what its log keeps."""

import io
import json
from pathlib import Path

from headstart.training.progress import RECORD
from headstart_pipelines.runner.journal import Journal


class Shown:
    """A display that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def opened(self, run: str, log: Path) -> None:
        self.calls.append(("opened", run, log))

    def began(self, total: int) -> None:
        self.calls.append(("began", total))

    def started(self, step: str) -> None:
        self.calls.append(("started", step))

    def progressed(self, step: str, label: str, done: int, total: int, note: str = "") -> None:
        self.calls.append(("progressed", step, label, done, total, note))

    def finished(self, step: str, seconds: float) -> None:
        self.calls.append(("finished", step))

    def reused(self, step: str) -> None:
        self.calls.append(("reused", step))

    def failed(self, step: str, seconds: float) -> None:
        self.calls.append(("failed", step))

    def logged(self, line: str) -> None:
        """The log's lines are not looked at here."""


def test_after_an_interrupt_the_running_steps_are_shown_as_failed_and_none_as_begun():
    shown = Shown()
    journal = Journal(io.StringIO(), shown)
    journal.step("finetune", "finetune partial")
    journal.interrupt()
    journal.step("finetune", "finetune full").end(1)
    journal.close()
    assert shown.calls == [
        ("started", "finetune partial"), ("failed", "finetune full"), ("failed", "finetune partial")
    ]  # fmt: skip


def test_steps_beside_each_other_keep_their_own_progress_errors_and_lines():
    shown, file = Shown(), io.StringIO()
    journal = Journal(file, shown)
    one, other = journal.step("finetune", "finetune partial"), journal.step("finetune", "finetune full")
    one.read("headstart.errors.InputError: the one's\n")
    other.read(RECORD + json.dumps({"label": "epoch", "done": 1, "total": 2, "note": "loss 3"}) + "\n")
    other.read("OSError: the other's\n")
    other.end(1)
    one.end(1)
    assert shown.calls[2] == ("progressed", "finetune full", "epoch", 1, 2, "loss 3")
    assert journal.explain(Path("run.log")) == (
        "finetune full failed: OSError: the other's\nThe complete log is run.log."
    )
    lines = file.getvalue().splitlines()
    assert "finetune partial | headstart.errors.InputError: the one's" in lines
    assert "finetune full | OSError: the other's" in lines
    assert RECORD not in file.getvalue()


def test_a_step_that_ends_without_an_exception_is_explained_by_its_last_line():
    journal = Journal(io.StringIO(), None)
    entry = journal.step("prepare-data", "prepare source")
    for line in ("    loading", "    mktemp: no such file", "[2026-01-01 00:00:00,000 INFO]: logged", ""):
        entry.read(line)
    entry.end(1)
    assert journal.explain(Path("run.log")).startswith("prepare source failed: mktemp: no such file\n")


def test_a_step_that_says_nothing_is_explained_by_its_exit_status():
    journal = Journal(io.StringIO(), None)
    journal.step("prepare-data", "prepare source").end(3)
    assert journal.explain(Path("run.log")).startswith("prepare source failed: its process ended with exit status 3.\n")
