"""The page that answers whether transfer helped, and shows why."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.evaluation.charts import Axis, heat, heat_paths, polyline
from headstart.evaluation.leaderboard import Leaderboard
from headstart.evaluation.metrics import metric_title
from headstart.html import render

# Above this a matrix of numbers is a wall: the page draws it and lists what stands out.
_MANY_CLASSES = 20
_CONFUSIONS = 8
_FEW_ITEMS = 100

History = Mapping[str, Sequence[Mapping[str, float]]]


def render_report(
    name: str,
    leaderboard: Leaderboard,
    metrics: Mapping[str, Any],
    *,
    history: History,
    data: Mapping[str, object],
    lineage: Mapping[str, object],
    reproduction: str,
) -> str:
    """One self-contained HTML page.

    name: the experiment's; metrics: `classification_metrics` of the chosen strategy on the test split; history: for
    each trained strategy its epochs as {"epoch", "train/loss", "val/loss", "val/<metric>"}, keys that are missing are
    not drawn; data, lineage: facts in the order they are to be shown, a label and its value each, None is left out;
    reproduction: the command that gives this result again.
    """
    return render(
        "report.html",
        name=name,
        board=leaderboard,
        metric=metric_title(leaderboard.metric),
        level=f"{100 * leaderboard.confidence:g}%",
        metrics=metrics,
        notes=list(_notes(leaderboard, metrics)),
        score_axis=Axis.spanning([bound for entry in leaderboard.entries for bound in (entry.low, entry.high)]),
        gain_axis=_gain_axis(leaderboard),
        scratch=next((entry for entry in leaderboard.entries if entry.strategy == "scratch"), None),
        confusion=_confusion(metrics),
        curves=_curves(leaderboard, history),
        data=_facts(data),
        lineage=_facts(lineage),
        reproduction=reproduction,
    )


def render_source_report(
    name: str, sentence: str, metrics: Mapping[str, Any] | None, *, architecture: str, data: Mapping[str, object]
) -> str:
    """One self-contained HTML page about a source on its own test split; arguments as for `render_report`. Without
    `metrics`, as where its data has no labels, the page has no figures."""
    return render(
        "source.html",
        name=name,
        sentence=sentence,
        metrics=metrics,
        facts=_facts({"Architecture": architecture, **data}),
        confusion=_confusion(metrics) if metrics else None,
    )


def _notes(board: Leaderboard, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a careful reader would want to be told."""
    chosen = board.chosen
    best = next(entry for entry in board.entries if entry.kind == "transfer")
    if best.value > chosen.value:
        yield (
            f"{best.strategy} scores higher on the test split than {chosen.strategy}, but the choice was made on the "
            "validation split: choosing by the test split would flatter the result."
        )
    if board.items < _FEW_ITEMS:
        yield f"Only {board.items} test items: the bootstrap is too optimistic on so few; collect more to be sure."
    if chosen.low == chosen.high:
        yield (
            "The chosen strategy's interval has no width because it treats every test item alike; this is not "
            "certainty, the bootstrap sees only the errors that happened."
        )
    absent = [row["name"] for row in metrics["per_class"] if row["support"] == 0]
    if absent:
        names = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
        yield f"{len(absent)} of {len(metrics['per_class'])} classes have no test item and no say here: {names}"


def _gain_axis(board: Leaderboard) -> Axis | None:
    gains = [each.gain for each in board.comparisons]
    bounds = [bound for gain in gains for bound in (gain.low, gain.high)]
    return Axis.spanning([0.0, board.min_gain, *bounds]) if gains else None


@dataclass(frozen=True)
class Confusion:
    """A true class taken for another one."""

    true: str
    predicted: str
    items: int
    share: float
    """of the true class's items"""


def _confusion(metrics: Mapping[str, Any]) -> dict[str, Any]:
    names = [row["name"] for row in metrics["per_class"]]
    counts = np.array(metrics["confusion"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    right = np.eye(len(names), dtype=bool)
    pairs = [
        Confusion(names[true], names[predicted], int(counts[true, predicted]), float(shares[true, predicted]))
        for true, predicted in np.argwhere((counts > 0) & ~right)
    ]
    pairs.sort(key=lambda pair: (-pair.items, -pair.share))
    many = len(names) > _MANY_CLASSES
    return {
        "names": names,
        "counts": metrics["confusion"],
        "heat": heat(shares).tolist(),
        "pairs": pairs[:_CONFUSIONS],
        "errors": sum(pair.items for pair in pairs),
        "many": many,
        "hits": heat_paths(shares * right) if many else [],
        "misses": heat_paths(shares * ~right) if many else [],
        "weakest": sorted(metrics["per_class"], key=lambda row: (row["support"] == 0, row["f1"]))[:10],
    }


@dataclass(frozen=True)
class Curve:
    """One strategy's training: polylines in a 100 by 100 box, "" where nothing was recorded."""

    strategy: str
    chosen: bool
    score: str
    train_loss: str
    val_loss: str
    best: float
    best_epoch: int
    best_x: float
    best_y: float


def _curves(board: Leaderboard, history: History) -> dict[str, Any]:
    """Small multiples on shared axes, in the leaderboard's order."""
    key = f"val/{board.metric}"

    def series(strategy: str, name: str) -> list[tuple[float, float]]:
        points = [(row["epoch"], row[name]) for row in history.get(strategy, ()) if row.get(name) is not None]
        return [point for point in points if math.isfinite(point[1])]

    trained = [entry for entry in board.entries if series(entry.strategy, key)]
    untrained = [entry.strategy for entry in board.entries if entry not in trained]
    if not trained:
        return {"curves": [], "untrained": untrained}
    scores = {entry.strategy: series(entry.strategy, key) for entry in trained}
    losses = [
        point for entry in trained for name in ("train/loss", "val/loss") for point in series(entry.strategy, name)
    ]
    epochs = Axis.spanning([0.0, *(epoch for points in scores.values() for epoch, _ in points)], least_step=1.0)
    score_axis = Axis.spanning([score for points in scores.values() for _, score in points])
    loss_axis = Axis.spanning([0.0, *(loss for _, loss in losses)], intervals=3)
    curves = []
    for entry in trained:
        best_epoch, best = max(scores[entry.strategy], key=lambda point: point[1])
        curves.append(
            Curve(
                strategy=entry.strategy,
                chosen=entry.chosen,
                score=polyline(scores[entry.strategy], epochs, score_axis),
                train_loss=polyline(series(entry.strategy, "train/loss"), epochs, loss_axis),
                val_loss=polyline(series(entry.strategy, "val/loss"), epochs, loss_axis),
                best=best,
                best_epoch=int(best_epoch),
                best_x=epochs.at(best_epoch),
                best_y=round(100 - score_axis.at(best), 2),
            )
        )
    return {
        "curves": curves,
        "untrained": untrained,
        "epochs": epochs,
        "scores": score_axis,
        "losses": loss_axis if losses else None,
    }


def _facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (label, f"{value:,}" if isinstance(value, int) else str(value))
        for label, value in facts.items()
        if value is not None
    ]
