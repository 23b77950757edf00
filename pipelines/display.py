"""What a person sees in a terminal: the course of a run, and tables."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.tree import Tree

# The step column's width: the longest name that a step has, with room for a strategy of the user's.
_WIDTH = 24


class Steps:
    """One line a step with its time; on a terminal a bar for the step that is at work."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def started(self, step: str) -> None:
        """Shows that `step` is at work."""
        if not self._console.is_terminal or self._verbose:
            return
        self._bar = Progress(
            TextColumn(f"  [cyan]…[/] {escape(step):<{_WIDTH}}"),
            BarColumn(bar_width=24),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
            transient=True,
            # sys.stdout is what reads kfp's log meanwhile; rich would put itself in its place and show all of it.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=None, note="")
        self._bar.start()

    def progressed(self, label: str, done: int, total: int, note: str) -> None:
        """Moves the bar; `note` is what there is to say about it."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=f"{done}/{total}  {escape(note)}")

    def finished(self, step: str, seconds: float) -> None:
        """Ends the step's line with its time."""
        self._end("green", "✓", step, f"{seconds:6.1f} s")

    def reused(self, step: str) -> None:
        """Says that nothing had to be done."""
        self._end("blue", "↺", step, "  reused")

    def failed(self, step: str, seconds: float) -> None:
        """Ends the step's line as a failure."""
        self._end("red", "✗", step, f"{seconds:6.1f} s")

    def logged(self, line: str) -> None:
        """Streams a line of the step's log where that was asked for."""
        if self._verbose:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _end(self, color: str, mark: str, step: str, text: str) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = self._task = None
        self._console.print(f"  [{color}]{mark}[/] {escape(step):<{_WIDTH}} {text}", highlight=False)


def console() -> Console:
    """Standard output, wide enough for the leaderboard also where it is not a terminal."""
    # The stream is bound now: while a pipeline runs, sys.stdout is what reads kfp's log.
    plain = Console(file=sys.stdout)
    return plain if plain.is_terminal or "COLUMNS" in os.environ else Console(file=sys.stdout, width=120)


def leaderboard_table(rows: Sequence[dict[str, Any]], chosen: str | None = None) -> Table:
    """The leaderboard's rows, as `Leaderboard.rows` or `comparison.compare` give them; fits into 80 columns.

    Strategies mostly share their source, which is then said once, below.
    """
    sources = sorted({row["source"].partition("#")[0] for row in rows if row["source"]})
    metric = next(key.removesuffix("_low") for key in rows[0] if key.endswith("_low") and key != "gain_low")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("strategy", no_wrap=True)
    table.add_column(metric.replace("_", " "), no_wrap=True)
    table.add_column("macro-F1", justify="right")
    table.add_column("gain over scratch", no_wrap=True)
    table.add_column("seconds", justify="right")
    if len(sources) > 1:
        table.add_column("source", overflow="fold", style="dim")
    elif sources:
        table.caption, table.caption_justify = f"source: {escape(sources[0])}", "left"
    for row in rows:
        is_chosen = row["strategy"] == chosen
        cells = [
            escape(row["strategy"]) + (" ←" if is_chosen else ""),
            _interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"], ".3f"),
            _number(row["macro_f1"], ".3f"),
            _gain(row),
            _number(row["seconds"], ".1f"),
        ]
        if len(sources) > 1:
            cells.append(escape((row["source"] or "").partition("#")[0]))
        table.add_row(*cells, style="bold" if is_chosen else None)
    return table


def lineage_tree(family: dict[str, Any]) -> Tree:
    """A version with its sources above it, oldest first, and its descendants below."""
    chain: list[dict[str, Any]] = [family]
    while chain[0].get("source"):
        chain.insert(0, chain[0]["source"])
    root = branch = Tree(_version(chain[0], chain[0] is family))
    for member in chain[1:]:
        branch = branch.add(_version(member, member is family))
    _add_descendants(branch, family["descendants"])
    return root


def _add_descendants(branch: Tree, descendants: Sequence[dict[str, Any]]) -> None:
    for child in descendants:
        _add_descendants(branch.add(_version(child, False)), child["descendants"])


def _version(member: dict[str, Any], asked: bool) -> str:
    if "uri" in member:
        return escape(member["uri"])
    name = escape(f"{member['model']}/{member['version']}")
    facts = " ".join(filter(None, [member["strategy"], *(f"@{alias}" for alias in member["aliases"])]))
    digest = (member["digest"] or "").removeprefix("sha256:")[:12]
    return f"{f'[bold]{name}[/]' if asked else name}  {escape(facts)}  [dim]{digest}[/]"


def _gain(row: dict[str, Any]) -> str:
    if row["gain"] is None:
        return ""
    text = _interval(row["gain"], row["gain_low"], row["gain_high"], "+.3f")
    if row["gain_low"] > 0:
        return f"[green]{text}[/]"
    return f"[red]{text}[/]" if row["gain_high"] < 0 else text


def _interval(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None or low is None or high is None:
        return "-"
    # An escaped bracket: rich reads [...] as markup.
    return f"{value:{form}} \\[{low:{form}}, {high:{form}}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
