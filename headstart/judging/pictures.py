"""Pictures of an assessment: SVG files that stand alone, for pages that show a run's images, as MLflow's does.

All text in them is escaped: class names and strategies are untrusted.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from headstart.charts import Axis, heat, heat_paths, polyline, recorded
from headstart.figures import figure
from headstart.judging.leaderboard import Entry, Leaderboard
from headstart.metrics.metric import metric_title
from headstart.terminal import printable

# Paper and ink of their own, as a page may be light or dark.
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.soft{fill:#59636e}.end{text-anchor:end}"
    ".middle{text-anchor:middle}.rule{stroke:#d1d9e0}.chosen{fill:#0969da;stroke:#0969da}"
    ".transfer{fill:#6e7781;stroke:#6e7781}.baseline{fill:#6e5494;stroke:#6e5494}"
    ".line{fill:none;stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round;stroke-linecap:round}"
    ".val{stroke:#0969da}.train{stroke:#b3490a}.band{fill:#6e5494;fill-opacity:.1}.hit{fill:#0969da}.miss{fill:#b3490a}"
    ".light{fill:#fff}"
)
_LONGEST_LABEL = 24
# Above this, a matrix of numbers is a wall.
_MANY_CLASSES = 20


def leaderboard_picture(board: Leaderboard) -> str:
    """Return the test metric of every contender with its interval, best first; scratch's interval is shaded."""
    row, left, width = 30, 210, 420
    axis = Axis.spanning([bound for entry in board.entries for bound in (entry.low, entry.high)])
    height = row * len(board.entries)

    def at(value: float) -> float:
        return round(left + axis.at(value) * width / 100, 1)

    def line(number: int, entry: Entry) -> str:
        y = 44 + row * number
        kind = "chosen" if entry.chosen else entry.kind
        mark = " ←" if entry.chosen else ""
        return (
            f'<text class="end" x="{left - 14}" y="{y + 4}">{_label(entry.strategy)}{mark}</text>'
            f'<line class="{kind}" stroke-width="2" x1="{at(entry.low)}" x2="{at(entry.high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="{kind}" cx="{at(entry.value)}" cy="{y}" r="5"/>'
            f'<text x="{left + width + 14}" y="{y + 4}">{figure(entry.value)}'
            f'<tspan class="soft"> [{figure(entry.low)}, {figure(entry.high)}]</tspan></text>'
        )

    rules = "".join(
        f'<line class="rule" x1="{at(tick)}" x2="{at(tick)}" y1="30" y2="{34 + height}"/>'
        f'<text class="soft middle" x="{at(tick)}" y="{52 + height}">{axis.label(tick)}</text>'
        for tick in axis.ticks
    )
    scratch = board.scratch
    band = (
        f'<rect class="band" x="{at(scratch.low)}" width="{round(at(scratch.high) - at(scratch.low), 1)}" y="30" '
        f'height="{height + 4}"/>'
        if scratch
        else ""
    )
    title = f"{metric_title(board.metric)} on {board.items:,} test items, {100 * board.confidence:g}% intervals"
    rows = "".join(line(number, entry) for number, entry in enumerate(board.entries))
    return _svg(800, height + 64, f'<text x="14" y="19">{escape(title)}</text>{band}{rules}{rows}')


def learning_curve_picture(history: Sequence[Mapping[str, float]], metric: str) -> str | None:
    """Return the metric on the validation split and the losses by epoch; None if no epoch has any of them.

    Args:
        history: a mapping for each epoch, with "epoch" and what is known of "train/loss", "val/loss", "val/<metric>".
    """
    panels = {
        f"{metric_title(metric)}, validation split": {"val": f"val/{metric}"},
        "loss: training orange, validation blue": {"train": "train/loss", "val": "val/loss"},
    }
    drawn: list[str] = []
    for title, lines in panels.items():
        curves = {kind: recorded(history, name) for kind, name in lines.items()}
        if any(curves.values()):
            drawn.append(_panel(title, curves, 14 + 400 * len(drawn)))
    return _svg(400 * len(drawn) + 14, 300, "".join(drawn)) if drawn else None


def confusion_picture(metrics: Mapping[str, Any]) -> str:
    """Return the confusion matrix of `classification_metrics`: blue is right, orange is wrong, and the deeper the
    larger the share of the true class."""
    names = [row["name"] for row in metrics["per_class"]]
    counts = np.array(metrics["confusion"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    right = np.eye(len(names), dtype=bool)
    title = '<text x="14" y="19">true class ↓, predicted class →</text>'
    if len(names) > _MANY_CLASSES:
        paths = "".join(
            f'<path class="{kind}" fill-opacity="{opacity}" d="{path}"/>'
            for kind, of in (("hit", right), ("miss", ~right))
            for opacity, path in heat_paths(shares * of)
        )
        drawing = f'<svg x="14" y="30" width="600" height="600" viewBox="0 0 {len(names)} {len(names)}">{paths}</svg>'
        return _svg(628, 644, title + drawing)
    cell, left = 40, 190
    top = 150 if max(map(len, names)) > 4 else 54
    cells = "".join(_cells(counts, heat(shares), cell, left, top))
    labels = "".join(
        f'<text class="end" x="{left - 8}" y="{top + cell * number + 25}">{_label(name)}</text>'
        + (
            f'<text transform="translate({left + cell * number + 24} {top - 8}) rotate(-60)">{_label(name)}</text>'
            if top > 60
            else f'<text class="middle" x="{left + cell * number + 20}" y="{top - 8}">{_label(name)}</text>'
        )
        for number, name in enumerate(names)
    )
    return _svg(left + cell * len(names) + 90, top + cell * len(names) + 14, title + labels + cells)


def _cells(counts: np.ndarray, depths: np.ndarray, cell: int, left: int, top: int) -> Iterator[str]:
    for true, predicted in np.argwhere(counts > 0):
        depth = float(depths[true, predicted])
        x, y = left + cell * int(predicted), top + cell * int(true)
        yield (
            f'<rect class="{"hit" if true == predicted else "miss"}" fill-opacity="{depth:g}" x="{x}" y="{y}" '
            f'width="{cell - 2}" height="{cell - 2}" rx="3"/>'
            f'<text class="middle{" light" if depth > 0.6 else ""}" x="{x + 19}" y="{y + 24}">'
            f"{counts[true, predicted]}</text>"
        )


def _panel(title: str, curves: Mapping[str, Sequence[tuple[float, float]]], left: int) -> str:
    """Draw lines over epochs at `left`, 400 wide and 300 high; their keys are their classes."""
    points = [point for line in curves.values() for point in line]
    epochs = Axis.spanning([0.0, *(epoch for epoch, _ in points)], least_step=1.0)
    values = Axis.spanning([value for _, value in points])
    x, y, width, height = left + 46, 34, 320, 220
    rules = "".join(
        f'<line class="rule" x1="{x}" x2="{x + width}" y1="{at:g}" y2="{at:g}"/>'
        f'<text class="soft end" x="{x - 8}" y="{at + 4:g}">{values.label(tick)}</text>'
        for tick in values.ticks
        for at in [y + height * (100 - values.at(tick)) / 100]
    )
    ticks = "".join(
        f'<text class="soft middle" x="{x + width * epochs.at(tick) / 100:g}" y="{y + height + 19}">'
        f"{epochs.label(tick)}</text>"
        for tick in epochs.ticks
    )
    lines = "".join(
        f'<polyline class="line {kind}" points="{polyline(line, epochs, values)}"/>'
        for kind, line in curves.items()
        if line
    )
    return (
        f'<text x="{x}" y="19">{escape(title)}</text>{rules}{ticks}'
        f'<text class="soft middle" x="{x + width / 2:g}" y="{y + height + 38}">epoch</text>'
        f'<svg x="{x}" y="{y}" width="{width}" height="{height}" viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'overflow="visible">{lines}</svg>'
    )


def _label(text: str) -> str:
    text = printable(text)
    return escape(text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…")


def _svg(width: int, height: int, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{content}</svg>\n'
    )
