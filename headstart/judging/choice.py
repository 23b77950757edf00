"""The choice among contenders: by their predictions for samples that were held out of training.

The test split only reports, so the winner's interval is not flattered by the choice (Cawley and Talbot 2010, "On
Over-fitting in Model Selection"). The rules, and how often others miss: docs/studies/choice.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.errors import HeadstartError
from headstart.judging.contenders import Contender
from headstart.metrics.one_standard_error import is_above_noise
from headstart.metrics.predictions import Predictions, on_common_samples


@dataclass(frozen=True)
class Choice:
    """The result of comparing all contenders of a target."""

    transfer: Contender
    """the best contender that uses a source: the verdict is about it"""
    ties: tuple[str, ...]
    """the strategies within noise of the best one, which is first, by their held-out log loss; none for a clear best"""
    delivered: Contender
    """the best of the transfer and the baselines that were kept as bundles: the model that is handed over"""
    recommended: Contender | None = None
    """a baseline that is better than `delivered` and of which predictions alone were kept"""


def choose(contenders: Sequence[Contender]) -> Choice:
    """Choose the transfer and the contender that is delivered.

    The transfer is the combination of strategies that tie where one was formed, else the strategy with the lowest
    held-out log loss. A baseline is delivered in its place where its log loss on the same samples is lower.

    Raises:
        HeadstartError: there is no transfer strategy, or nothing tells how good one is.
    """
    strategies = [each for each in contenders if each.kind == "transfer" and not each.members]
    tied = ties(strategies)
    transfer = next((each for each in contenders if each.members), tied[0])
    better = sorted(
        (lead, number, each)
        for number, each in enumerate(contenders)
        if each.kind == "baseline" and (lead := _lead(transfer, each)) < 0
    )
    ranked = [*(each for *_, each in better), transfer]
    delivered = next(each for each in ranked if each is transfer or each.is_kept)
    return Choice(
        transfer,
        tuple(each.strategy for each in tied) if len(tied) > 1 else (),
        delivered,
        None if ranked[0] is delivered else ranked[0],
    )


def ties(strategies: Sequence[Contender]) -> list[Contender]:
    """Return the strategies within noise of the best one, by their log loss on held-out samples, lowest first.

    A strategy ties with the best where the mean of the paired differences of their losses is at most one standard error
    of that mean (Breiman et al. 1984, "Classification and regression trees", section 3.4.3). Of strategies that predict
    the same, the first one stands for all: a recipe's default order begins with what trains least. Where a strategy has
    no held-out predictions, the validation metric alone ranks all and nothing ties; those that learned from all labels,
    of which none was held out, tie.

    Raises:
        HeadstartError: there is no strategy.
    """
    if not strategies:
        raise HeadstartError("No transfer strategy was evaluated; give the recipe at least one under `strategies`.")
    found = _held_out(strategies)
    if not found:
        return _by_metric(strategies)
    losses = [each.losses for each in found]
    # Python's sort keeps the order of equal strategies.
    order = sorted(range(len(strategies)), key=lambda number: losses[number].mean())
    tied: list[int] = []
    for number in order:
        is_told = any(found[number].is_same(found[other]) for other in tied)
        if not is_told and not is_above_noise(losses[number] - losses[order[0]]):
            tied.append(number)
    return [strategies[number] for number in tied]


def _by_metric(strategies: Sequence[Contender]) -> list[Contender]:
    # Of labels that all had to be learned none could be held out; a strategy that learned from them is not told apart
    # from another one, and goes before those that learned nothing and so could be judged.
    unknown = [each for each in strategies if not math.isfinite(each.validation)]
    return unknown or [max(strategies, key=lambda each: each.validation)]


def _lead(transfer: Contender, baseline: Contender) -> float:
    """The baseline's mean held-out log loss less the transfer's; infinite where they have no samples in common."""
    found = _held_out([transfer, baseline])
    if not found:
        return math.inf
    ours, theirs = (float(each.losses.mean()) for each in found)
    return theirs - ours


def _held_out(contenders: Sequence[Contender]) -> list[Predictions]:
    """The held-out predictions of all for the samples that they have in common; empty where there are none."""
    known = [each.held_out for each in contenders if each.held_out is not None]
    found = on_common_samples(known) if len(known) == len(contenders) else []
    return found if found and len(found[0].ids) else []
