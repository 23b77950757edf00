"""What a person sees of the lines that kfp.local writes."""

import io

from headstart_pipelines.reader import StepReader


class Shown:
    """A display that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def started(self, step: str) -> None:
        self.calls.append(("started", step))

    def failed(self, step: str, seconds: float) -> None:
        self.calls.append(("failed", step))

    def logged(self, line: str) -> None:
        """The log's lines are not looked at here."""


def test_after_an_interrupt_the_running_step_is_shown_as_failed_and_none_as_begun():
    shown = Shown()
    reader = StepReader(io.StringIO(), shown, {"finetune": ["finetune partial", "finetune full"]})
    reader.write("12:00:00 - INFO - Executing task 'finetune'\n")
    reader.interrupt()
    # kfp.local goes on with the next strategy.
    reader.write("12:00:01 - INFO - Task 'finetune' finished with status FAILURE\n")
    reader.write("12:00:01 - INFO - Executing task 'finetune'\n")
    reader.write("12:00:01 - INFO - Task 'finetune' finished with status FAILURE\n")
    reader.close()
    assert shown.calls == [("started", "finetune partial"), ("failed", "finetune partial")]


def test_a_step_that_ends_without_an_exception_is_explained_by_its_last_line(tmp_path):
    reader = StepReader(io.StringIO(), Shown(), {})
    reader.write("12:00:00 - INFO - Executing task 'prepare-data'\n")
    reader.write("    loading\n    mktemp: failed to create directory: No such file or directory\n\n")
    reader.write("12:00:01 - ERROR - Task 'prepare-data' finished with status FAILURE\n")
    explained = reader.explain(RuntimeError("Inner task failed: 'prepare-data'."), tmp_path / "run.log")
    assert explained.splitlines()[0] == (
        "prepare data failed: mktemp: failed to create directory: No such file or directory"
    )
