"""The reasons why a transfer helped or not: measured figures, each beside the threshold that makes it a reason."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstart.judging.data_efficiency import Curve, Rise
from headstart.judging.leaderboard import Leaderboard
from headstart.metrics.groups import of_groups
from headstart.metrics.intervals import Interval

# Squared Hellinger distances above this are far: docs/studies/domain_distance.md.
FAR = 0.1
# More labels are the remedy where their last doubling brought more than this.
STILL_RISING = 0.02
# The largest gap between training and test accuracy that is no overfitting.
OVERFITTING = 0.1


@dataclass(frozen=True)
class Reason:
    """One question, the figure that answers it, the threshold that was set before, and the answer."""

    question: str
    figure: str
    threshold: str
    speaks_against: bool | None
    """whether it is a warning, about the transfer or about trusting a figure; None where it cannot be told"""
    sentence: str
    remedy: str = ""
    """what to do where it speaks against"""


@dataclass(frozen=True)
class Probe:
    """Cross-validated accuracies of a ridge probe on frozen features, with standard errors."""

    source: float
    source_error: float
    random: float
    random_error: float
    """the same of a network of random weights"""

    @property
    def lead(self) -> Interval:
        """The source's accuracy less that of random weights, with an interval of two standard errors."""
        lead, error = self.source - self.random, float(np.hypot(self.source_error, self.random_error))
        return Interval(lead, lead - 2 * error, lead + 2 * error)


@dataclass(frozen=True)
class Fitted:
    """The accuracies of a model on its training samples and on the test split."""

    strategy: str
    train: float
    test: float


def reasons(
    board: Leaderboard, *, probe: Probe | None, distance: float | None, fitted: list[Fitted], curve: Curve | None
) -> list[Reason]:
    """The reasons that the figures give for the verdict. `probe` is None where the training labels are too few for it:
    no two classes have two of them."""
    return [
        *_about_source(probe, distance),
        *_about_labels(curve),
        *(_about_fit(each) for each in fitted),
        *_about_test(board),
    ]


def _about_source(probe: Probe | None, distance: float | None) -> Iterator[Reason]:
    yield _about_features(probe)
    if distance is not None:
        far = distance > FAR
        yield Reason(
            "Is the source too far away?",
            f"distance {distance:.3f} of 1",
            f"at most {FAR:g}",
            far,
            f"In the source's own features the target is {distance:.3f} away from what the source was trained on (0 is "
            f"alike, 1 has nothing in common): " + ("it is far." if far else "it is near."),
            "Look for a source that was trained on samples more like the target's.",
        )


def _about_features(probe: Probe | None) -> Reason:
    question = "Do the source's features tell the target's classes apart?"
    threshold = "more than two standard errors better than random weights"
    if probe is None:
        return Reason(
            question,
            "no probe",
            threshold,
            None,
            "Whether the source's features tell the target's classes apart cannot be told: a probe asks about training "
            "samples that it did not see, and no two classes have two of them.",
        )
    useless = probe.lead.low <= 0
    return Reason(
        question,
        f"probe {probe.source:.3f} ± {probe.source_error:.3f}; of random weights {probe.random:.3f} "
        f"± {probe.random_error:.3f}",
        threshold,
        useless,
        f"A linear probe on the source's frozen features is right on {probe.source:.3f} of the training labels that it "
        f"did not see, on those of random weights on {probe.random:.3f}: "
        + (
            "the source is not shown to know what helps here."
            if useless
            else "the source knows something that helps here."
        ),
        "Take another source: this one is not shown to know more than random weights do.",
    )


def _about_labels(curve: Curve | None) -> Iterator[Reason]:
    question, threshold = (
        "Are there too few labels?",
        f"at most {STILL_RISING:+g} with two standard errors, of a trained network",
    )
    trained = curve.last_doubling(trained=True) if curve else None
    fitted = curve.last_doubling(trained=False) if curve else None
    if trained:
        few = trained.value > STILL_RISING and trained.value > 2 * trained.error
        little = trained.value + 2 * trained.error <= STILL_RISING
        yield Reason(
            question,
            f"{trained.value:+.3f} ± {trained.error:.3f} by the last doubling",
            threshold,
            few if few or little else None,
            _last_doubling(trained, trained.method.partition(",")[0])
            + (
                ": more labels would help further."
                if few
                else ": more labels would add little."
                if little
                else ": whether more would help cannot be told."
            ),
            "Label more training samples: the last doubling of them still helped.",
        )
    elif fitted:
        # What is fitted to frozen features stops gaining while a network that learns from the labels still does.
        yield Reason(
            question,
            f"{fitted.value:+.3f} by the last doubling, without training",
            threshold,
            None,
            f"{_last_doubling(fitted, f'the {fitted.method}')}; that says nothing about a network that trains on them, "
            "which evaluation.curve_training measures.",
        )


def _last_doubling(rise: Rise, method: str) -> str:
    return (
        f"With {rise.labels_per_class} labels a class, the last doubling of them has brought {method} {rise.value:+.3f}"
    )


def _about_fit(fitted: Fitted) -> Reason:
    gap = fitted.train - fitted.test
    over = gap > OVERFITTING
    return Reason(
        f"Does {fitted.strategy} overfit?",
        f"training {fitted.train:.3f}, test {fitted.test:.3f}",
        f"a gap of at most {OVERFITTING:g}",
        over,
        f"{fitted.strategy} is right on {fitted.train:.3f} of its training samples and {fitted.test:.3f} of the "
        "test's: " + ("it has learned samples by heart." if over else "what it learned carries over."),
    )


def _about_test(board: Leaderboard) -> Iterator[Reason]:
    if board.over_best is None or board.verdict != "no evidence":
        return
    gain = board.over_best.gain
    half = (gain.high - gain.low) / 2
    hidden = gain.value > board.min_gain
    yield Reason(
        "Are there too few test items?",
        f"gain {gain.value:+.3f} ± {half:.3f}",
        "a gain above the half-width of its interval",
        hidden,
        f"With {board.items:,} test items{of_groups(board.groups)} a gain below {half + board.min_gain:.3f} cannot be "
        "told from "
        + (f"{board.min_gain:.3f}" if board.min_gain else "none")
        + (": there may be one that is too small to see." if hidden else ", and no gain was found."),
        "Test on more items, so that a small gain can be told from none.",
    )
