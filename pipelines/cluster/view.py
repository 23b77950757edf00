"""Terminal output about runs on a cluster: live steps, final states, and lists."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from headstart.terminal import printable
from headstart_pipelines.cluster.run_state import RunState
from headstart_pipelines.cluster.states import Attempt, Progress, State
from headstart_pipelines.display import minute, plain, table

_MARKS = {
    "waiting": ("·", "dim"),
    "not run": ("·", "dim"),
    "omitted": ("·", "dim"),
    "skipped": ("·", "dim"),
    "queued": ("…", "yellow"),
    "no image": ("!", "red"),
    "no secret": ("!", "red"),
    "no config": ("!", "red"),
    "starting": ("…", "cyan"),
    "running": ("…", "cyan"),
    "retrying": ("…", "yellow"),
    "done": ("✓", "green"),
    "reused": ("↺", "blue"),
    "failed": ("✗", "red"),
    "terminated": ("■", "yellow"),
    "lost": ("?", "yellow"),
    "unknown": ("?", "yellow"),
}
_LABEL_WIDTH = 24
_WORD_WIDTH = 10
_INDENT = 4
_BAR_WIDTH = 12


class RunWatch:
    """Live display of a run's steps: one updating table on a terminal, else a line for each change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._seen: dict[str, tuple[object, ...]] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, run_state: RunState, now: datetime) -> None:
        """Show the run and its steps."""
        if self._live:
            self._live.update(steps_table(run_state, now), refresh=True)
            return
        for state in run_state.states:
            path, held = state.step.path, (state.word, state.reason, len(state.attempts))
            if state.word != "waiting" and self._is_new(path, held):
                self._print(_line(state))
                for text in _below(state):
                    self._print(Text(" " * _INDENT).append(text))
            if state.progress and self._is_new(f"{path} progress", (state.progress,)):
                self._print(_line(state).append(f"  {_far(state.progress)}"))
        if self._is_new("", (run_state.word,)):
            self._print(Text(f"  run {run_state.word}"))

    def waiting(self, problem: str, seconds: float) -> None:
        """Show why the server is asked again only after so many seconds."""
        problem = f"  {printable(problem)} Trying again in {seconds:g} s; the run goes on meanwhile."
        self._print(Text(problem, style="yellow"))

    def _is_new(self, key: str, news: tuple[object, ...]) -> bool:
        is_new = self._seen.get(key) != news
        self._seen[key] = news
        return is_new

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def as_dict(run_state: RunState, page: str, now: datetime) -> dict[str, Any]:
    """Return a run, its steps and their attempts as plain JSON values."""
    return {
        "run": run_state.run.display_name,
        "run_id": run_state.run.run_id,
        "state": run_state.word,
        "reason": run_state.reason,
        "page": page,
        "steps": [
            {
                "step": state.step.label,
                "state": state.word,
                "reason": state.reason,
                "seconds": state.seconds(now),
                "progress": asdict(state.progress) if state.progress else None,
                "attempts": [
                    {
                        "state": each.word,
                        "reason": each.reason,
                        "started": each.started.isoformat() if each.started else None,
                        "finished": each.ended.isoformat() if each.ended else None,
                        "pod": each.pod,
                        "driver": each.is_driver,
                    }
                    for each in state.attempts
                ],
            }
            for state in run_state.states
        ],
    }


def steps_table(run_state: RunState, now: datetime) -> Group:
    """Return a line for each step, details below it, and the run's state; fits into 80 columns."""
    shown: list[RenderableType] = []
    above: list[Text] = []
    for state in run_state.states:
        below = _below(state)
        if state.progress:
            below.append(_bar(state.progress))
        shown.append(_line(state, now))
        # A reason shared by a group of steps is shown once.
        shown += [Padding(text, (0, 0, 0, _INDENT)) for text in below if text not in above]
        above = below
    done = sum(state.word in ("done", "reused") for state in run_state.states)
    known = f", {done} of {len(run_state.states)} steps done" if run_state.states else ""
    shown.append(Text(f"  run {run_state.word}{known}", style="bold"))
    if run_state.reason:
        shown.append(Padding(Text(run_state.reason), (0, 0, 0, _INDENT)))
    return Group(*shown)


def _line(state: State, now: datetime | None = None) -> Text:
    """Return a step's state, and the time that it took, or has taken until `now`."""
    mark, style = _MARKS[state.word]
    until = state.ended or now
    seconds = state.seconds(until) if until else None
    time = duration(seconds) if seconds is not None else ""
    label = printable(state.step.label)
    line = Text.assemble("  ", (mark, style), f" {label:<{_LABEL_WIDTH}} {state.word:<{_WORD_WIDTH}} {time:>9}")
    line.rstrip()
    if style == "dim":
        line.stylize("dim")
    return line


def _below(state: State) -> list[Text]:
    """Return the reason of a step's state, or of each attempt if there were several."""
    if len(state.attempts) > 1:
        said = [f"attempt {number}: {_said(attempt)}" for number, attempt in enumerate(state.attempts, start=1)]
    else:
        said = [state.reason] if state.reason else []
    return [Text(printable(each), style="dim") for each in said]


def _said(attempt: Attempt) -> str:
    time = attempt.started and attempt.ended and duration((attempt.ended - attempt.started).total_seconds())
    return f"{attempt.word}{f' after {time}' if time else ''}{f': {attempt.reason}' if attempt.reason else ''}"


def _bar(progress: Progress) -> Text:
    made = round(_BAR_WIDTH * min(progress.done / progress.total, 1)) if progress.total else 0
    return Text.assemble(("━" * made, "cyan"), ("━" * (_BAR_WIDTH - made), "dim"), f" {_far(progress)}")


def _far(progress: Progress) -> str:
    """Format progress as 4/6, with the step's note and the time left."""
    left = "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
    notes = ", ".join(filter(None, (printable(progress.note), left)))
    return f"{progress.done}/{progress.total}  {notes}".rstrip()


def runs_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a table of the rows of `runs.list_runs`, with the names that commands accept; fits into 80 columns."""
    made = table(
        Column("run", overflow="fold"),
        Column("state", no_wrap=True),
        Column("created (UTC)", no_wrap=True),
        Column("took", justify="right", no_wrap=True),
    )
    colors = {"succeeded": "green", "failed": "red", "terminated": "yellow", "lost": "yellow", "running": "cyan"}
    for row in rows:
        took = "" if row["seconds"] is None else duration(row["seconds"])
        color = colors.get(row["state"])
        state = f"[{color}]{row['state']}[/]" if color else plain(row["state"])
        made.add_row(plain(row["run"] or "–"), state, minute(row["created"]), took)
    return made


def schedules_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a table of the rows of `schedule.list_schedules`; fits into 80 columns."""
    made = table(
        Column("schedule", overflow="fold"),
        Column("cron, seconds first", overflow="fold"),
        Column("last run (UTC)", no_wrap=True),
        Column("state", no_wrap=True),
    )
    for row in rows:
        state = ", ".join(filter(None, (row["last_state"], "" if row["enabled"] else "disabled")))
        made.add_row(plain(row["schedule"] or "–"), plain(row["cron"] or "–"), minute(row["last_tick"]), plain(state))
    return made


def duration(seconds: float) -> str:
    """Format seconds as 2 s, 3 min 20 s or 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
