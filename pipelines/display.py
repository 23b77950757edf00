"""Terminal output: the steps of a run as they go, and tables."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from headstart.figures import figure
from headstart.metrics.metric import METRICS
from headstart.terminal import printable

if TYPE_CHECKING:
    from headstart.tracking.gate import GateResult

# The step column's width: the longest name that a step has, with room for a strategy of the user's.
_WIDTH = 24


class Steps:
    """One line a step with its time; on a terminal a bar for each step that is at work, and how far the run is.

    Threads may share it.
    """

    def __init__(self, console: Console, *, verbose: bool = False, quiet: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._quiet = quiet
        self._lock = threading.RLock()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._whole: TaskID | None = None
        self._total = self._done = 0
        self._begun = time.monotonic()

    def began(self, total: int) -> None:
        """Shows from now on how many of a run's `total` steps are done."""
        self._total, self._begun = total, time.monotonic()

    def opened(self, run: str, log: Path) -> None:
        """Says what the run is called and where its log is, before its first step."""
        if not self._quiet:
            show_facts(self._console, [("run", run), ("log", str(short(log)))])

    def started(self, step: str) -> None:
        """Shows that `step` is at work."""
        if not self._console.is_terminal or self._verbose or self._quiet:
            return
        with self._lock:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("  {task.fields[mark]} {task.description}"),
                    BarColumn(bar_width=24),
                    TextColumn("[dim]{task.fields[note]}"),
                    _TimeColumn(),
                    console=self._console,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._bars.start()
                if self._total:
                    self._whole = self._bars.add_task(
                        f"{'':<{_WIDTH}}",
                        total=self._total,
                        completed=self._done,
                        mark=" ",
                        note=self._count(),
                        begun=self._begun,
                    )
            name = f"{plain(step):<{_WIDTH}}"
            self._tasks[step] = self._bars.add_task(name, total=None, mark="[cyan]…[/]", note="")

    def progressed(self, step: str, label: str, done: int, total: int, note: str = "") -> None:
        """Moves a step's bar; `note` is what there is to say about it."""
        with self._lock:
            if self._bars and step in self._tasks:
                text = f"{done}/{total}  {plain(note)}"
                self._bars.update(self._tasks[step], completed=done, total=total, note=text)

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
            with self._lock:
                self._console.print(printable(line, keep="\t"), markup=False, highlight=False, soft_wrap=True)

    def _end(self, color: str, mark: str, step: str, text: str) -> None:
        with self._lock:
            self._done += 1
            if self._bars:
                if step in self._tasks:
                    self._bars.remove_task(self._tasks.pop(step))
                if self._whole is not None:
                    self._bars.update(self._whole, completed=self._done, note=self._count())
                if not self._tasks:
                    self._bars.stop()
                    self._bars = self._whole = None
            if self._quiet:
                return
            self._console.print(f"  [{color}]{mark}[/] {plain(step):<{_WIDTH}} {text}", highlight=False)

    def _count(self) -> str:
        return f"{self._done} of {self._total} steps"


class _TimeColumn(ProgressColumn):
    """Elapsed time, and what is left as far as the bar tells."""

    def render(self, task: Task) -> Text:
        """The text for one bar."""
        begun = task.fields.get("begun")
        text = _duration(time.monotonic() - begun if begun else task.elapsed or 0.0)
        left = task.time_remaining
        return Text(text + (f", about {_duration(left)} left" if left else ""), style="dim")


def _duration(seconds: float) -> str:
    """Minutes and seconds, as in 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to the command line what a reader that had enough means; rich would end with exit code 1."""
        # rich calls this where it has caught the BrokenPipeError.
        raise


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error, wide enough for the leaderboard also where it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    made = _Console(file=stream)
    return made if made.is_terminal or "COLUMNS" in os.environ else _Console(file=stream, width=120)


def short(path: Path) -> Path:
    """`path` relative to the working directory where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def verdict(sentence: str, facts: Iterable[str] = ()) -> str:
    """The sentence that answers whether the transfer helped, and a line for each fact beside it, set off from what is
    around them."""
    return f"\n[bold]{plain(sentence)}[/]\n" + "".join(f"[yellow]! {plain(fact)}[/]\n" for fact in facts)


def show_list(rows: Sequence[Any], shown: Callable[[Any], Table], nothing: str, *, as_json: bool) -> None:
    """Prints rows as JSON or as the table that `shown` makes of them; where there are none, the sentence `nothing`."""
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        console().print(shown(rows))
    else:
        print(nothing)


def show_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    """Labels with their texts, one a line and unbroken, so that paths and addresses can be copied."""
    facts = list(facts)
    width = max([12, *(len(label) for label, _ in facts)])
    for label, text in facts:
        console.print(f"{printable(label):<{width}} {printable(text)}", highlight=False, soft_wrap=True, markup=False)


def table(*columns: Column | str, title: str | None = None) -> Table:
    """A table without lines around its cells."""
    return Table(
        *columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title=title, title_justify="left"
    )


def minute(time: str | None) -> str:
    """A time in ISO 8601 as tables show it, to the minute."""
    return (time or "–")[:16].replace("T", " ")


def leaderboard_table(
    rows: Sequence[dict[str, Any]], *, chosen: Sequence[bool] = (), pipeline_runs: Sequence[str] = ()
) -> Table:
    """The leaderboard's rows, as `Leaderboard.rows` or `Comparison.rows` give them; fits into 80 columns.

    A strategy that predicts the same as another is shown as equal to it, a combination with the number of networks that
    a prediction takes. `chosen` tells beside each row whether it
    was chosen, `pipeline_runs` which run it belongs to, where they are given.
    Strategies mostly share their source, which is then said once, below.
    """
    sources = sorted({row["source"].partition("#")[0] for row in rows if row["source"]})
    metric = next(key.removesuffix("_low") for key in rows[0] if key.endswith("_low") and not key.startswith("gain"))
    made = table(
        Column("strategy", no_wrap=True),
        Column(metric.replace("_", " "), no_wrap=True),
        Column("R²" if "r2" in rows[0] else "macro-F1", justify="right"),
        Column(f"gain over {_best_baseline(rows, metric)}", no_wrap=True),
        Column("seconds", justify="right"),
    )
    if pipeline_runs:
        made.add_column("pipeline run", overflow="fold")
    if len(sources) > 1:
        made.add_column("source", overflow="fold", style="dim")
    elif sources:
        made.caption, made.caption_justify = f"source: {plain(sources[0])}", "left"
    for position, row in enumerate(rows):
        is_chosen = bool(chosen) and chosen[position]
        cells = [
            plain(row["strategy"])
            + (f" = {plain(row['same_as'])}" if row["same_as"] else "")
            + (f" of {1 + row['members'].count(', ')}" if row["members"] else "")
            + (" ←" if is_chosen else ""),
            _interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"]),
            _number(row.get("macro_f1", row.get("r2")), ".3f"),
            _gain(row),
            _number(row["seconds"], ".1f"),
        ]
        if pipeline_runs:
            cells.append(plain(pipeline_runs[position]))
        if len(sources) > 1:
            cells.append(plain((row["source"] or "").partition("#")[0]))
        made.add_row(*cells, style="bold" if is_chosen else None)
    return made


def gates_table(gates: "Sequence[GateResult]") -> Table:
    """The gates of a promotion with their values and limits; fits into 80 columns."""
    made = table(
        "",
        Column("gate", no_wrap=True),
        Column("value", justify="right", no_wrap=True),
        Column("limit", no_wrap=True),
        Column("", overflow="fold"),
    )
    for gate in gates:
        mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[gate.passed]
        relation = {">": ">", ">=": "≥", "<=": "≤"}[gate.relation]
        made.add_row(
            f"[{style}]{mark}[/]",
            gate.name,
            "–" if gate.value is None else _figure(gate.value),
            f"{relation} {_figure(gate.limit)}",
            plain(gate.text),
            style="dim" if gate.passed is None else None,
        )
    return made


def history_table(changes: Sequence[dict[str, Any]]) -> Table:
    """The changes of a champion, as `headstart history --json` lists them; fits into 80 columns."""
    made = table(
        Column("champion", no_wrap=True),
        Column("before", no_wrap=True),
        Column("when (UTC)", no_wrap=True),
        Column("by", overflow="fold", max_width=16),
        Column("why", overflow="fold"),
    )
    for change in changes:
        why = [change["reason"]] if change["reason"] else []
        if change["kind"] == "outside":
            why.append("not made by headstart")
        if change["kind"] == "rollback":
            why.insert(0, "rollback")
        if change["forced"]:
            closed = ", ".join(str(gate.get("name")) for gate in change["gates"] if gate.get("passed") is False)
            why.append(f"forced past {closed}")
        made.add_row(
            plain(change["version"] or "none"),
            plain(change["previous"] or "none"),
            plain(minute(change["at"])),
            plain(change["by"] or "–"),
            plain("; ".join(why)),
            style="yellow" if change["kind"] == "outside" else None,
        )
    return made


def _figure(value: float) -> str:
    return f"{value:g}" if value == int(value) else f"{value:.3f}"


def lineage_tree(family: dict[str, Any]) -> Tree:
    """A model with its sources above it, oldest first, and its descendants below."""
    chain: list[dict[str, Any]] = [family]
    while chain[0]["source"]:
        chain.insert(0, chain[0]["source"])
    root = branch = Tree(_model(chain[0], chain[0] is family))
    for member in chain[1:]:
        branch = branch.add(_model(member, member is family))
    _add_descendants(branch, family["descendants"])
    return root


def champions_table(models: Sequence[dict[str, Any]]) -> Table:
    """Champions as `lineage.champions` gives them, one a line."""
    made = table("")
    made.show_header = False
    for model in models:
        made.add_row(_model(model, False))
    return made


def _add_descendants(branch: Tree, descendants: Sequence[dict[str, Any]]) -> None:
    for child in descendants:
        _add_descendants(branch.add(_model(child, False)), child["descendants"])


# What is said of a model that is not in the registry as its name has it.
_ABSENCES = {"missing": "(not in the registry)", "replaced": "(replaced: its number holds another model now)"}


def _model(member: dict[str, Any], asked: bool) -> str:
    name = plain(f"{member['model']}/{member['version']}" if member["model"] else member["uri"])
    facts = [member["strategy"], *(f"@{alias}" for alias in member["aliases"]), _ABSENCES.get(member["status"])]
    digest = (member["digest"] or "").removeprefix("sha256:")[:12]
    shown = plain(" ".join(filter(None, facts)))
    return "  ".join(filter(None, [f"[bold]{name}[/]" if asked else name, shown, f"[dim]{plain(digest)}[/]"]))


def plain(text: str) -> str:
    """Text from the record that is neither markup for rich nor a control sequence for the terminal."""
    return escape(printable(text))


def _best_baseline(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """The name of the baseline that the rows' gains are over, where it is one of them."""
    baselines = [row for row in rows if row["gain_over_best"] is None and row[metric] is not None]
    merit = METRICS[metric].merit if metric in METRICS else float
    return plain(max(baselines, key=lambda row: merit(row[metric]))["strategy"]) if baselines else "a baseline"


def _gain(row: dict[str, Any]) -> str:
    value, low, high = (row[f"gain_over_best{ending}"] for ending in ("", "_low", "_high"))
    if value is None:
        return ""
    text = _interval(value, low, high, signed=True)
    if (low or 0) > 0:
        return f"[green]{text}[/]"
    return f"[red]{text}[/]" if (high or 0) < 0 else text


def _interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    if value is None or low is None or high is None:
        return "-" if value is None else figure(value, signed=signed)
    shown, *bounds = (figure(each, signed=signed) for each in (value, low, high))
    # An escaped bracket: rich reads [...] as markup.
    return f"{shown} \\[{', '.join(bounds)}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
