"""The choice among contenders: by their predictions for samples that were held out of training.

The test split only reports, so the winner's interval is not flattered by the choice (Cawley and Talbot 2010, "On
Over-fitting in Model Selection"). The rules, and how often others miss: docs/studies/choice.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.errors import HeadstartError
from headstart.judging.contenders import Contender
from headstart.metrics.averaging import best_by_metric, in_common, weights_by_held_out


@dataclass(frozen=True)
class Choice:
    """The result of comparing all contenders of a target."""

    transfer: Contender
    """the best contender that uses a source: the verdict is about it"""
    ties: tuple[str, ...]
    """the strategies that held-out samples do not tell apart, the best one first; none for a clear best"""
    delivered: Contender
    """the model that is handed over: the combination that was formed, or else the best of the transfer and of
    the baselines that were kept as bundles"""
    recommended: Contender | None = None
    """a baseline that is better than `delivered` and of which predictions alone were kept"""


def choose(contenders: Sequence[Contender]) -> Choice:
    """Choose the transfer and the contender that is delivered.

    The transfer is the strategy with the largest of `weights`: one model, as each baseline is, so that its gain is not
    that of averaging. A start that a training has beaten is none (`unbeaten`), and of a model and its smaller copy one
    stands for both (`one_of_each`). The combination that was formed, or else the transfer, is delivered, but for a
    baseline that is no part of it and whose log loss on the same samples is lower.

    Raises:
        HeadstartError: there is no transfer strategy, or nothing tells how good one is.
    """
    strategies = one_of_each(unbeaten([each for each in contenders if each.kind == "transfer" and not each.members]))
    tied = ties(strategies)
    transfer = tied[0]
    ours = next((each for each in contenders if each.members), transfer)
    better = sorted(
        (lead, number, each)
        for number, each in enumerate(contenders)
        if each.kind == "baseline" and each.strategy not in ours.members and (lead := _lead(ours, each)) < 0
    )
    ranked = [*(each for *_, each in better), ours]
    delivered = next(each for each in ranked if each is ours or each.is_kept)
    return Choice(
        transfer,
        tuple(each.strategy for each in tied) if len(tied) > 1 else (),
        delivered,
        ranked[0] if not ranked[0].is_kept and ranked[0] is not delivered else None,
    )


def unbeaten(strategies: Sequence[Contender]) -> list[Contender]:
    """Return the strategies without the heads on the source's features that a training began with and beat.

    The held-out samples decided there already, in pairs, and decide better than the weights of many contenders:
    docs/studies/choice.md.
    """
    beaten = {each.start for each in strategies if each.beats_start}
    return [each for each in strategies if each.is_training or each.start not in beaten]


def one_of_each(strategies: Sequence[Contender]) -> list[Contender]:
    """Return the strategies, and of a model and its smaller copy one: the copy, since it costs less to run, unless
    held-out samples tell that the original is better."""
    kept = list(strategies)
    for copy in strategies:
        original = next((each for each in kept if each.strategy == copy.original), None)
        if original is not None:
            kept.remove(original if copy in ties([copy, original]) else copy)
    return kept


def ties(strategies: Sequence[Contender]) -> list[Contender]:
    """Return the strategies, or contenders of any kind, that may be the best: those that `weights` names."""
    return [each for each, _ in weights(strategies)]


def weights(contenders: Sequence[Contender]) -> list[tuple[Contender, float]]:
    """Return the contenders that held-out samples do not tell from the best, and the weight of each; largest first.

    The weights, which add up to 1, are those of `weights_by_held_out`: pseudo-BMA+ (Yao, Vehtari, Simpson and Gelman
    2018, "Using stacking to average Bayesian predictive distributions", section 3.4), the likelihood of the held-out
    samples under a contender as a share of that under all. Of contenders that predict the same, the first one stands
    for all: a recipe's default order begins with what trains least.

    Where a contender has no held-out predictions, the validation metric alone ranks all; those that learned from all
    labels, of which none was held out, are equal.

    Raises:
        HeadstartError: there is no contender.
    """
    if not contenders:
        raise HeadstartError("No transfer strategy was evaluated; give the recipe at least one under `strategies`.")
    found = weights_by_held_out([each.held_out for each in contenders])
    if not found:
        best = best_by_metric([each.validation for each in contenders])
        return [(contenders[number], 1 / len(best)) for number in best]
    return [(contenders[number], weight) for number, weight in found]


def _lead(transfer: Contender, baseline: Contender) -> float:
    """The baseline's mean held-out log loss less the transfer's; infinite where they have no samples in common."""
    found = in_common([transfer.held_out, baseline.held_out])
    if not found:
        return math.inf
    ours, theirs = (float(each.losses.mean()) for each in found)
    return theirs - ours
