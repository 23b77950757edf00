"""The page that answers whether transfer helped, and shows why."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.charts import Axis, LogAxis, heat, heat_paths, polyline
from headstart.html import render
from headstart.judging.curve import SEEDS, Curve
from headstart.judging.examination import Examination
from headstart.judging.leaderboard import Entry, Leaderboard
from headstart.judging.robustness import SEVERITIES, Robustness
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import metric_title
from headstart.models.reference import unpinned

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
    examination: Examination,
    history: History,
    kept: Mapping[str, int | None],
    data: Mapping[str, object],
    lineage: Mapping[str, object],
    reproduction: str,
    ranking: Sequence[Mapping[str, Any]] = (),
    ranking_reason: str = "",
) -> str:
    """One self-contained HTML page.

    name: the experiment's; metrics: `classification_metrics` of the chosen strategy on the test split; examination: of
    the chosen strategy; history: for each trained strategy its epochs as {"epoch", "train/loss", "val/loss",
    "val/<metric>"}, keys that are missing are not drawn; kept: for each of these the epoch whose weights it kept, 0 for
    the start, None for weights between those of epochs; data, lineage: facts in the order they are to be shown, a
    label and its value each, None is left out; reproduction: the command that gives this result again; ranking: the
    candidates for the source as their selection describes them, and why one was taken.
    """
    return render(
        "report.html",
        name=name,
        board=leaderboard,
        metric=metric_title(leaderboard.metric),
        level=f"{100 * leaderboard.confidence:g}%",
        metrics=metrics,
        examination=examination,
        notes=list(_notes(leaderboard, metrics)),
        qualified=_qualified(leaderboard),
        intervals=[
            ("calibration error" if name == "ece" else metric_title(name), interval)
            for name, interval in examination.intervals.items()
        ],
        learning=_learning(examination.curve, leaderboard) if examination.curve else None,
        reliability=_reliability(examination),
        selective=_selective(examination),
        robust=_robust(examination.robustness, examination.scratch_robustness) if examination.robustness else None,
        ranking=_ranking(ranking),
        ranking_reason=ranking_reason,
        score_axis=Axis.spanning([bound for entry in leaderboard.entries for bound in (entry.low, entry.high)]),
        gain_axis=_gain_axis(leaderboard),
        scratch=next((entry for entry in leaderboard.entries if entry.strategy == "scratch"), None),
        confusion=_confusion(metrics),
        weakest=sorted(examination.classes, key=lambda row: (row.support == 0, row.f1.value))[:10],
        curves=_curves(leaderboard, history, kept),
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
        yield f"Only {board.items} test items: where classes have few, intervals are too narrow; collect more."
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
    }


@dataclass(frozen=True)
class TrainingCurve:
    """One strategy's training: polylines in a 100 by 100 box, "" where nothing was recorded."""

    strategy: str
    chosen: bool
    score: str
    train_loss: str
    val_loss: str
    kept: str
    """which weights were kept, in words, with their score: that of the leaderboard"""
    dot: tuple[float, float] | None
    """where these stand in the box; None where they are no epoch's"""


def _curves(board: Leaderboard, history: History, kept: Mapping[str, int | None]) -> dict[str, Any]:
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
    validations = [entry.validation for entry in trained]
    score_axis = Axis.spanning([*validations, *(score for points in scores.values() for _, score in points)])
    loss_axis = Axis.spanning([0.0, *(loss for _, loss in losses)], intervals=3)
    curves = []
    for entry in trained:
        epoch = kept.get(entry.strategy)
        curves.append(
            TrainingCurve(
                strategy=entry.strategy,
                chosen=entry.chosen,
                score=polyline(scores[entry.strategy], epochs, score_axis),
                train_loss=polyline(series(entry.strategy, "train/loss"), epochs, loss_axis),
                val_loss=polyline(series(entry.strategy, "val/loss"), epochs, loss_axis),
                kept=_kept(entry, epoch, scores[entry.strategy]),
                dot=None if epoch is None else (epochs.at(epoch), round(100 - score_axis.at(entry.validation), 2)),
            )
        )
    return {
        "curves": curves,
        "untrained": untrained,
        "epochs": epochs,
        "scores": score_axis,
        "losses": loss_axis if losses else None,
    }


def _kept(entry: Entry, epoch: int | None, scores: Sequence[tuple[float, float]]) -> str:
    """Which weights a strategy kept and how they score, and where another epoch scored higher."""
    weights = {None: "weights between the start and an epoch", 0: "the start"}.get(epoch, f"epoch {epoch}")
    highest_epoch, highest = max(scores, key=lambda point: point[1])
    higher = f"; highest {highest:.3f} in epoch {highest_epoch:.0f}" if highest > entry.validation else ""
    return f"kept {weights}: {entry.validation:.3f}{higher}"


_BASELINE_STYLES = ("base-0", "base-1", "base-2")
_TRANSFER_STYLES = ("gain-0", "gain-1", "gain-2")


def _qualified(board: Leaderboard) -> str:
    """What takes something away from help over scratch: baselines that do as well or better; "" for none."""
    better = [each.baseline for each in board.comparisons if each.verdict == "hurt"]
    if better:
        return f"yet {_listed(better)} {'do' if len(better) > 1 else 'does'} better"
    return f"yet no more than {_listed(board.unbeaten)} would" if board.unbeaten else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _learning(curve: Curve, board: Leaderboard) -> dict[str, Any]:
    """The data-efficiency curve as a drawing, a table and sentences."""
    x = LogAxis(tuple(float(size) for size in curve.sizes))
    scores = [score for series in curve.series for point in series.points for score in point.scores]
    y = Axis.spanning([*scores, *(entry.value for entry in board.entries)])
    styles = {"transfer": iter(_TRANSFER_STYLES), "baseline": iter(_BASELINE_STYLES)}
    lines = []
    for series in curve.series:
        points = [(point.labels_per_class, point.mean) for point in series.points]
        lines.append(
            {
                "name": series.name,
                "style": next(styles[series.kind]),
                "line": polyline(points, x, y),
                "points": [(x.at(size), round(100 - y.at(mean), 2)) for size, mean in points],
                "ranges": [
                    (x.at(each.labels_per_class), *(round(100 - y.at(f(each.scores)), 2) for f in (min, max)))
                    for each in series.points
                ],
                "cells": [(each.mean, min(each.scores), max(each.scores)) for each in series.points],
            }
        )
    trained = any(series.trained for series in curve.series)
    start = "the best start from the source" if trained else "the source's frozen features"
    sentences = []
    for each in curve.catch_ups:
        if each.labels_per_class is None:
            sentences.append(f"{each.baseline} is behind {start} with {curve.sizes[-1]} labels a class.")
        elif each.labels_per_class <= curve.sizes[0]:
            few = f"{curve.sizes[0]} label{'' if curve.sizes[0] == 1 else 's'}"
            sentences.append(f"{each.baseline} is as good as {start} from {few} a class on.")
        else:
            sentences.append(
                f"{each.baseline} catches up with {start} at about {each.labels_per_class:.0f} labels a class."
            )
    return {
        "x": x,
        "y": y,
        "sizes": curve.sizes,
        "complete": curve.complete,
        "lines": lines,
        "ends": [
            (entry.strategy, entry.kind, round(100 - y.at(entry.value), 2), entry.chosen) for entry in board.entries
        ],
        "sentences": sentences,
        "trained": trained,
        "draws": SEEDS,
        "seconds": curve.seconds,
    }


def _reliability(examination: Examination) -> dict[str, Any]:
    unit = Axis(0.0, 1.0, 0.2)
    return {
        "axis": unit,
        "bins": [
            {
                "x": unit.at(each.low),
                "width": round(unit.at(each.high) - unit.at(each.low), 2),
                "centre": unit.at(each.confidence),
                "y": round(100 - unit.at(each.accuracy.value), 2),
                "low": round(100 - unit.at(each.accuracy.low), 2),
                "high": round(100 - unit.at(each.accuracy.high), 2),
                "items": each.items,
                "confidence": each.confidence,
                "accuracy": each.accuracy,
            }
            for each in examination.bins
        ],
    }


def _selective(examination: Examination) -> dict[str, Any]:
    found = examination.selective
    # A long test split has more points than a screen has pixels.
    shown = np.unique(np.linspace(0, len(found.coverage) - 1, 300).round().astype(int))
    x = Axis(0.0, 1.0, 0.2)
    y = Axis.spanning([0.0, float(found.risk.max())])
    return {
        "x": x,
        "y": y,
        "line": polyline([(float(found.coverage[i]), float(found.risk[i])) for i in shown], x, y),
        "aurc": found.aurc,
        "oracle": found.oracle,
        "full": float(found.risk[-1]),
        "at": [(coverage, found.risk_at(coverage)) for coverage in (0.5, 0.8, 0.9, 1.0)],
        "at_risk": [(risk, found.coverage_at(risk)) for risk in (0.01, 0.02, 0.05)],
    }


def _robust(found: Robustness, scratch: Robustness | None) -> dict[str, Any]:
    others = {row.corruption: row.accuracies for row in scratch.corrupted} if scratch else {}
    return {
        "items": found.items,
        "clean": found.clean,
        "scratch_clean": scratch.clean if scratch else None,
        "mean": found.mean,
        "scratch_mean": scratch.mean if scratch else None,
        "severities": SEVERITIES,
        "rows": [
            {
                "corruption": row.corruption,
                "cells": [
                    {"own": own, "scratch": others[row.corruption][number] if scratch else None}
                    for number, own in enumerate(row.accuracies)
                ],
            }
            for row in sorted(found.corrupted, key=lambda row: row.accuracies[-1].value)
        ],
    }


# The scores of a source beside its probe, in the order they are shown, by the name they go by.
_SCORES = {
    "knn": "kNN",
    "logme": "LogME",
    "h_score": "H-score",
    "leep": "LEEP",
    "nleep": "NLEEP",
    "source_accuracy": "own accuracy",
    "confirmed": "short fine-tune",
}


def _ranking(ranking: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The candidates for the source, with the scores that at least one of them has."""
    shown = [key for key in _SCORES if any(each.get(key) is not None for each in ranking)]
    rows = []
    for number, each in enumerate(ranking):
        probe, error = each["probe"], each.get("probe_error", 0.0)
        overlap = each.get("overlap") or {}
        rows.append(
            {
                "source": unpinned(each["source"]),
                "architecture": each.get("architecture", ""),
                # KFP carries whole numbers as floats.
                "parameters": int(each.get("parameters") or 0),
                "probe": None
                if probe is None
                else Interval(
                    probe, each.get("probe_low", probe - 2 * error), each.get("probe_high", probe + 2 * error)
                ),
                "scores": [each.get(key) for key in shown],
                "seconds": each.get("seconds"),
                "chosen": each.get("chosen", number == 0),
                "overlap": int(sum(overlap.values())),
                "complete": each.get("overlap_complete", True),
            }
        )
    return {"rows": rows, "titles": [_SCORES[key] for key in shown]}


def _facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (label, f"{value:,}" if isinstance(value, int) else str(value))
        for label, value in facts.items()
        if value is not None
    ]
