"""The headline: facts that decide about a transfer beside its verdict, each said only where it holds.

A fact is a function in `FACTS`, which is named after what it finds and returns a sentence or None; its docstring gives
the threshold. All figures are of the chosen strategy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.judging.leaderboard import Leaderboard
from headstart.judging.robustness import Robustness
from headstart.metrics.groups import groups_at, mean_interval
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import metric_title
from headstart.metrics.predictions import Predictions
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.metrics.tasks.regression import COVERAGE, coverage_spread
from headstart.metrics.wilson import wilson_interval

# Of one class's share of the test items.
IMBALANCED = 0.5
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Findings:
    """What the facts are found in."""

    board: Leaderboard
    predictions: Predictions
    scratch: Predictions | None
    """those of scratch for the same items; None where it was not trained"""
    intervals: Mapping[str, Interval]
    """every metric"""
    validated: int
    """the samples that the validation metric was measured on, those of a group being one"""
    robustness: Robustness | None = None
    scratch_robustness: Robustness | None = None
    corrupted_lead: Interval | None = None
    """the mean accuracy over all corruptions, less that of scratch on the same items"""
    unseen: str | None = None
    """what the source does not see of the target's samples, as a sentence"""


def headline(findings: Findings) -> dict[str, str]:
    """The sentences of the facts that hold, by name."""
    facts = {REGRESSION: NUMBER_FACTS, MULTI_LABEL: LABEL_FACTS}.get(findings.predictions.task, FACTS)
    found = {fact.__name__: fact(findings) for fact in facts}
    return {name: sentence for name, sentence in found.items() if sentence}


def worse_when_corrupted(findings: Findings) -> str | None:
    """Below scratch on corrupted items: the interval of the difference of the mean accuracies lies below 0."""
    ours, scratch, lead = findings.robustness, findings.scratch_robustness, findings.corrupted_lead
    if ours is None or scratch is None or lead is None or lead.high >= 0:
        return None
    return (
        f"On corrupted items {findings.board.chosen.strategy} falls below scratch: {ours.mean:.3f} accuracy against "
        f"{scratch.mean:.3f}, {lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]."
    )


def unseen_by_source(findings: Findings) -> str | None:
    """A source that does not see all of the target's samples, as one of two seconds does not hear the third, and one of
    grey pictures knows no colour: the comparison is fair, and both sides may be worse than need be."""
    return findings.unseen


def below_chance(findings: Findings) -> str | None:
    """Worse than a guess: the accuracy's interval lies below 1 / K with K classes in the test split; where no baseline
    tells how it compares with the majority class, also below the share of that."""
    accuracy, sizes = findings.intervals["accuracy"], np.bincount(findings.predictions.labels)
    classes = int((sizes > 0).sum())
    reached = f"{findings.board.chosen.strategy} is right on {accuracy.value:.3f} of the test items"
    if accuracy.high < 1 / classes:
        return f"{reached}; a guess among {classes} classes is on {1 / classes:.3f}."
    largest = float(sizes.max() / sizes.sum())
    if not findings.board.comparisons and accuracy.high < largest:
        return f"{reached}; naming the most frequent class always is on {largest:.3f}."
    return None


def imbalance_hidden(findings: Findings) -> str | None:
    """Accuracy that decides, while one class has more than half of the test items, and a quarter more than its part of
    two."""
    sizes = np.bincount(findings.predictions.labels)
    share = float(sizes.max() / sizes.sum())
    if findings.board.metric != "accuracy" or share <= max(IMBALANCED, 1.25 / len(findings.predictions.classes)):
        return None
    largest, balanced = findings.predictions.classes[int(sizes.argmax())], findings.intervals["balanced_accuracy"]
    return (
        f"Accuracy hides imbalance: {largest} has {share:.0%} of the test items. "
        f"Balanced accuracy is {balanced.value:.3f} [{balanced.low:.3f}, {balanced.high:.3f}]; choose by it with "
        "evaluation.metric."
    )


def classes_lost(findings: Findings) -> str | None:
    """Classes whose log loss is higher than with scratch: the interval of the mean difference over the class's items
    lies above 0, at the confidence of the evaluation for all classes at once (Bonferroni)."""
    if findings.scratch is None:
        return None
    labels, classes = findings.predictions.labels, findings.predictions.classes
    ours, scratch = findings.predictions.losses, findings.scratch.losses
    present = np.unique(labels)
    confidence = 1 - (1 - findings.board.confidence) / len(present)
    lost = []
    for number in present:
        items = labels == number
        groups = groups_at(findings.predictions.groups, items)
        difference = mean_interval((ours - scratch)[items], groups, confidence=confidence)
        if difference.low > 0:
            losses = f"{ours[items].mean():.2f} against {scratch[items].mean():.2f}"
            lost.append((difference.value, f"{classes[number]} ({losses})"))
    return _lost(lost, len(classes), "classes")


def labels_lost(findings: Findings) -> str | None:
    """Labels whose log loss is higher than with scratch: as `classes_lost`, over the items of which a label is
    known."""
    if findings.scratch is None:
        return None
    found, classes = findings.predictions, findings.predictions.classes
    confidence = 1 - (1 - findings.board.confidence) / len(classes)
    lost = []
    for number, name in enumerate(classes):
        items = found.labels[:, number] >= 0
        ours, scratch = (
            each.kind.losses(found.labels[items, number : number + 1], each.outputs[items, number : number + 1])
            for each in (found, findings.scratch)
        )
        groups = groups_at(found.groups, items)
        if items.any() and (difference := mean_interval(ours - scratch, groups, confidence=confidence)).low > 0:
            lost.append((difference.value, f"{name} ({ours.mean():.2f} against {scratch.mean():.2f})"))
    return _lost(lost, len(classes), "labels")


def _lost(lost: Sequence[tuple[float, str]], count: int, noun: str) -> str | None:
    if not lost:
        return None
    worst = [text for _, text in sorted(lost, key=lambda each: -each[0])]
    more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
    return (
        f"{len(lost)} of {count} {noun} surely have a higher log loss than with scratch: "
        f"{', '.join(worst[:_NAMED])}{more}."
    )


def far_below_validation(findings: Findings) -> str | None:
    """A test metric below the validation metric by more than the intervals of both explain: their halves towards each
    other in squares, that of validation as of a proportion (Wilson's, which is not 0 where all samples were right)."""
    chosen, items = findings.board.chosen, findings.validated
    if not items or chosen.validation is None or not 0 <= chosen.validation <= 1:
        return None
    hits = round(chosen.validation * items)
    validated = wilson_interval(hits, items, confidence=findings.board.confidence)
    explained = float(np.hypot(validated.value - validated.low, chosen.high - chosen.value))
    if chosen.validation - chosen.value <= explained:
        return None
    return (
        f"The test lies far below validation: {chosen.value:.3f} {metric_title(chosen.metric)} against "
        f"{chosen.validation:.3f}, where the numbers of items explain {explained:.3f}. The choice fitted the "
        "validation samples, or the test's are of another kind."
    )


def intervals_miss(findings: Findings) -> str | None:
    """Prediction intervals that do not hold what they promise: the share of test items in them is below 90% by more
    than the noise of the test and of the held-out samples, whose quantile the margin is, explain."""
    found = findings.intervals.get("coverage")
    if found is None:
        return None
    spread = coverage_spread(findings.validated)
    if found.value + np.hypot(found.high - found.value, spread) >= COVERAGE:
        return None
    return (
        f"The intervals of predictions should hold {COVERAGE:.0%} of new samples and hold {found.value:.0%} of the "
        f"test items [{found.low:.0%}, {found.high:.0%}]; chance alone, with {findings.validated} held-out samples, "
        f"goes down to {COVERAGE - spread:.0%}. The test's are of another kind, or the choice fitted the held-out ones."
    )


Fact = Callable[[Findings], str | None]
FACTS: tuple[Fact, ...] = (
    far_below_validation,
    below_chance,
    imbalance_hidden,
    worse_when_corrupted,
    classes_lost,
    unseen_by_source,
)
LABEL_FACTS: tuple[Fact, ...] = (labels_lost, unseen_by_source)
NUMBER_FACTS: tuple[Fact, ...] = (intervals_miss, unseen_by_source)
