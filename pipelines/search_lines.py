"""What a search shows on a terminal: one live line, a line for each trial, and the table of the best."""

import math
import time
from collections.abc import Sequence

from rich.console import Console
from rich.status import Status
from rich.table import Column, Table

from headstart.searching.searched import Searched
from headstart.searching.trial import Tried, complete
from headstart.strategies.section import Strategy
from headstart_pipelines import display
from headstart_pipelines.search import Found, held_out

# Of the table of the best trials, beside those that the run compares.
_ROWS = 10
_WIDTH = 18


class SearchLines:
    """Shows trials as they go. On a terminal the last line tells the trial at work, the best so far and what is left.

    Args:
        metric: of the recipe's evaluation.
        trials: after how many the search ends; None, after none.
    """

    def __init__(self, console: Console, metric: str, *, trials: int | None, quiet: bool = False) -> None:
        self._console, self._metric, self._quiet, self._trials = console, metric, quiet, trials
        self._status: Status | None = None
        self._seconds: list[float] = []
        self._end = math.inf
        self._line = self._best = ""

    def began(self, number: int, strategy: Strategy, source: str, left: float) -> None:
        """A trial begins."""
        self._end = time.monotonic() + left
        self._line = f"trial {number}{self._of(number, left)}  {strategy.name}"
        if self._quiet or not self._console.is_terminal:
            return
        if self._status is None:
            self._status = Status("", console=self._console)
            self._status.start()
        self._show("")

    def progressed(self, label: str, done: int, total: int, note: str = "") -> None:
        """So many epochs of a training are done."""
        self._show(f"  epoch {done}/{total}")

    def at_work(self, names: Sequence[str], left: float) -> None:
        """These are tried beside each other."""
        self._end = time.monotonic() + left
        self._line = f"{len(names)} at work: {', '.join(names)}"
        self._show("")

    def ended(self, tried: Tried, best: Tried | None) -> None:
        """A trial ended."""
        self._seconds.append(tried.seconds)
        if best:
            self._best = f"best: {best.name}, {held_out(best, self._metric)}"
        if self._quiet:
            return
        mark = {"complete": "[green]✓[/]", "pruned": "[dim]–[/]", "failed": "[red]✗[/]"}[tried.state]
        text = tried.reason if tried.loss is None else held_out(tried, self._metric)
        star = "  [bold]best so far[/]" if best and best.number == tried.number else ""
        self._console.print(
            f"  {mark} {tried.number:>3} {display.plain(tried.name):<{_WIDTH}} {tried.seconds:6.1f} s  "
            f"{display.plain(text or '')}{star}",
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Remove the live line."""
        if self._status:
            self._status.stop()
            self._status = None

    def _show(self, done: str) -> None:
        if self._status:
            parts = (self._line + done, self._best, self._left())
            self._status.update(display.plain("   ".join(part for part in parts if part)))

    def _of(self, number: int, left: float) -> str:
        """How many trials there are likely to be, from the time that those of this session took."""
        if math.isinf(left) or not sum(self._seconds):
            return f" of {self._trials}" if self._trials else ""
        likely = number + int(left * len(self._seconds) / sum(self._seconds))
        return f" of ~{min(likely, self._trials) if self._trials else likely}"

    def _left(self) -> str:
        left = int(max(0.0, self._end - time.monotonic())) if math.isfinite(self._end) else None
        return "" if left is None else f"{left // 60}:{left % 60:02} left"


def trials_table(searched: Searched, metric: str) -> Table:
    """The best trials, those that the run compares marked; fits into 100 columns."""
    rows = complete(searched.tried)[:_ROWS]
    sources = {each.source for each in rows}
    several = len(sources) > 1
    table = display.table(
        Column("trial", justify="right"),
        Column("strategy", no_wrap=True),
        Column("held-out log loss", justify="right"),
        Column(metric.replace("_", " "), no_wrap=True),
        Column("seconds", justify="right"),
        Column("settings", overflow="fold"),
        *([Column("source", overflow="fold", style="dim")] if several else []),
    )
    chosen = {tried.number for tried in searched.best}
    for tried in rows:
        table.add_row(
            str(tried.number),
            display.plain(tried.name) + (" ←" if tried.number in chosen else ""),
            f"{tried.loss:.3f}",
            f"{tried.value:.3f} \\[{tried.low:.3f}, {tried.high:.3f}]",
            f"{tried.seconds:.1f}",
            display.plain(_settings(tried)),
            *([display.plain(tried.source)] if several else []),
            style="bold" if tried.number in chosen else None,
        )
    if not several:
        table.caption, table.caption_justify = f"source: {display.plain(sources.pop())}", "left"
    return table


def show_found(console: Console, found: Found, *, runs: bool, on_cluster: bool = False) -> None:
    """Print the best trials, what ties and what comes next; `runs` tells whether the final run follows."""
    searched = found.searched
    console.print("", trials_table(searched, found.recipe.evaluation.metric), sep="\n")
    counts = {state: sum(each.state == state for each in searched.tried) for state in ("complete", "pruned", "failed")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [
        f"{len(searched.tried)} trials in {searched.seconds / 60:.1f} minutes ({told}); the search ended as "
        f"{searched.reason}.",
        *found.notes,
    ]
    if searched.ties:
        lines.append(f"Held-out labels do not tell these apart: {_listed(searched.ties)}.")
    best = f"the best {len(searched.best)} from {searched.source}" if len(searched.best) > 1 else searched.best[0].name
    cost = f"Training takes about {_duration(searched.final_seconds)}; baselines and judging come on top."
    ending = (
        "now. " + cost
        if runs
        else f"by: headstart {'submit' if on_cluster else 'run'} {display.short(found.path)}. " + cost
    )
    lines.append(f"The test split judges {best} {ending}")
    for line in lines:
        console.print(display.plain(line), highlight=False)
    display.show_facts(console, [("recipe", str(display.short(found.path)))])
    console.print()


def _settings(tried: Tried) -> str:
    shown = {key: value for key, value in tried.strategy.items() if key not in ("name", "transfer", "strategy")}
    return " ".join(f"{key}={value}" for key, value in shown.items())


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
