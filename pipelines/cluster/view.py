"""What a person sees of a run on a cluster: its course, its steps, and lists."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headstart_pipelines.cluster.runs import FINAL
from headstart_pipelines.cluster.steps import State
from headstart_pipelines.display import plain, printable

_MARKS = {
    "waiting": ("·", "dim"),
    "not run": ("·", "dim"),
    "starting": ("…", "cyan"),
    "running": ("…", "cyan"),
    "paused": ("…", "yellow"),
    "done": ("✓", "green"),
    "reused": ("↺", "blue"),
    "failed": ("✗", "red"),
    "stopped": ("■", "yellow"),
}
_ENDED = frozenset({"done", "reused", "failed", "stopped"})
_WIDTH = 24


class RunWatch:
    """A run's steps as they go: one table that changes on a terminal, else a line whenever a step's state changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._seen: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, state: str, steps: Sequence[State], now: datetime) -> None:
        """Shows the run's state and its steps'."""
        if self._live:
            self._live.update(steps_table(state, steps, now), refresh=True)
            return
        for step in steps:
            if step.word != "waiting" and self._seen.get(step.step.label) != step.word:
                self._seen[step.step.label] = step.word
                self._console.print(_line(step))
        if self._seen.get("") != state:
            self._seen[""] = state
            self._console.print(f"  run {state.lower()}", highlight=False)

    def waiting(self, problem: str, seconds: float) -> None:
        """Says why the server is asked again only in so many seconds."""
        self._console.print(
            f"  {printable(problem)} Trying again in {seconds:g} s; the run goes on meanwhile.",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def steps_table(state: str, steps: Sequence[State], now: datetime) -> Group:
    """A line a step, and the run's state; fits into 80 columns."""
    ended = sum(step.word in _ENDED for step in steps)
    known = f", {ended} of {len(steps)} steps" if steps else ""
    # What still waits when a run has ended waits for nothing.
    shown = [replace(step, word="not run") if step.word == "waiting" and state in FINAL else step for step in steps]
    return Group(*(_line(step, now) for step in shown), Text(f"  run {state.lower()}{known}", style="bold"))


def _line(step: State, now: datetime | None = None) -> Text:
    """A step's state and how long it took, or has taken until `now`."""
    mark, style = _MARKS[step.word]
    until = step.ended or now
    seconds = step.seconds(until) if until else None
    time = _duration(seconds) if seconds is not None and step.word != "reused" else ""
    line = Text.assemble("  ", (mark, style), f" {printable(step.step.label):<{_WIDTH}} {step.word:<9} {time:>9}")
    line.rstrip()
    if style == "dim":
        line.stylize("dim")
    return line


def runs_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Runs as `runs.list_runs` gives them, by the names that commands take; fits into 80 columns."""
    table = _table()
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("created (UTC)", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    colors = {"succeeded": "green", "failed": "red", "canceled": "yellow", "running": "cyan"}
    for row in rows:
        took = "" if row["seconds"] is None else _duration(row["seconds"])
        color = colors.get(row["state"])
        state = f"[{color}]{row['state']}[/]" if color else plain(row["state"])
        created = (row["created"] or "–")[:16].replace("T", " ")
        table.add_row(plain(row["run"] or "–"), state, created, took)
    return table


def schedules_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Schedules as `schedule.list_schedules` gives them."""
    table = _table()
    table.add_column("schedule", overflow="fold")
    table.add_column("cron, seconds first", no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(plain(row["schedule"] or "–"), plain(row["cron"] or "–"), "" if row["enabled"] else "disabled")
    return table


def show_tail(console: Console, step: str, lines: Sequence[str]) -> None:
    """The end of a step's log, set off from what is around it."""
    console.print(f"\nThe end of the log of {printable(step)}:", markup=False, highlight=False)
    for line in lines:
        console.print(f"  {printable(line)}", style="dim", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _duration(seconds: float) -> str:
    """1.5 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
