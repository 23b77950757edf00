"""Source selection: which of several models this target should start from.

A ridge probe on frozen features ranks all candidates, which takes seconds, and LogME says which of those that the
probe does not tell from its best goes first (docs/studies/source-scores.md). The first two are fine-tuned for a quarter
of the epochs (successive halving: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016), and the clearer of the two findings decides. Other scores are shown beside these.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import InputError
from headstart.judging.confirmation import confirm, estimated_seconds, tuned_lead
from headstart.judging.ranking import Candidates, Lead, Ranked, Scored, probe_lead, rank_order
from headstart.models.bundle import ModelBundle
from headstart.models.sources import Background, published_background
from headstart.training.progress import Progress
from headstart.training.section import Training

RANKING = "ranking.json"
"""The file that holds a selection's table."""

_FINALISTS = 2
"""Candidates that are fine-tuned."""
# Standard errors to the end of an interval of 95 % and of 99 %.
_Z, _DECISIVE = 1.959964, 2.575829
# The score that decides among candidates that tie by the probe: docs/studies/source-scores.md.
_AMONG_TIES = "logme"
_NO_PROBE = "a probe tells nothing, as no two classes have two training samples"


@dataclass(frozen=True)
class Selection:
    """The chosen source, the ranking, best first, the reason for the choice, and warnings.

    `confirm_seconds` estimates how long fine-tuning the two best would take; None where they are told apart, or were
    fine-tuned.
    """

    bundle: ModelBundle
    ranking: tuple[Ranked, ...]
    reason: str
    warnings: tuple[str, ...]
    confirm_seconds: float | None = None

    @property
    def chosen(self) -> Ranked:
        """The chosen source's row of the ranking, which need not be the first."""
        return next(ranked for ranked in self.ranking if ranked.chosen)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the bundle: `source`, `reason`, `warnings`, `seconds` and `ranking`."""
        return {
            "source": self.chosen.source,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "seconds": sum(ranked.seconds for ranked in self.ranking),
            "ranking": [ranked.to_dict() for ranked in self.ranking],
        }


def select_source(
    candidates: Sequence[str],
    dataset: Dataset,
    *,
    training: Training | None = None,
    metric: str = "accuracy",
    seed: int = 0,
    fetch_registered: Callable[[str], Path] | None = None,
    background: Callable[[str], Background] = published_background,
    progress: Progress | None = None,
) -> Selection:
    """Ranks pinned candidates by a probe of their frozen features and confirms the two best by fine-tuning.

    The scores read the training split only, 10 000 samples of it at most, and the fine-tunings choose on the validation
    split; test samples are only compared with what a candidate was trained on. Of candidates that the probe does not
    tell from its best at 95 % confidence, the one with the largest LogME comes first. On equal probes, the candidate
    that was trained on fewer of the target's samples comes first, then the smaller network, then the one given first.
    The first is chosen unless the second's fine-tuning leads at 95 % confidence and by more standard errors of the
    difference than its probe trails, or by the 2.6 of 99 % confidence, as a probe may err by more than chance. If the
    two differ by less than 95 % confidence asks for, a candidate that knows test samples of the target gives way to one
    that does not: its accuracy there would mean nothing.

    The state that the environment names keeps the features, which serve the strategies that start from the chosen
    source, and the checkpoints of the fine-tunings, which are jobs.

    Args:
        training: settings of the confirming fine-tunings, which get a quarter of its epochs; None: the probe decides.
        metric: judges the fine-tunings.
        fetch_registered: as for `load_source`.
        background: gives what is known of a candidate beside its content.

    Raises:
        InputError: there is no candidate, or one, which is named, cannot be loaded.
    """
    if not candidates:
        raise InputError("There is no source to choose from; give source.data or source.candidates.")
    loader = Candidates(dataset, seed, fetch_registered, background)
    scored: list[Scored] = []
    offered = tuple(dict.fromkeys(candidates))
    for number, uri in enumerate(offered, start=1):
        scored.append(loader.score(uri))
        if progress:
            ranked = scored[-1].ranked
            progress("probing sources", number, len(offered), f"{ranked.architecture} {_shown(ranked.probe)}")
    scored = _ordered(scored)
    finalists, confirm_seconds = _finalists(scored), None
    # A fine-tuning is judged on held-out samples.
    several = len(finalists) > 1 and dataset.counts["val"] > 0
    if several and training is None and abs(probe_lead(*finalists).errors) <= _Z:
        confirm_seconds = sum(estimated_seconds(loader.load(each.ranked.source), dataset) for each in finalists)
    if several and training is not None:
        given = (dataset, training, metric, seed, progress)
        finalists = [confirm(each, loader.load(each.ranked.source), *given) for each in finalists]
    chosen, reason = _choose(finalists, partial(tuned_lead, dataset=dataset, metric=metric, seed=seed))
    final = {each.ranked.source: each.ranked for each in [*scored, *finalists]}
    final[chosen.ranked.source] = replace(chosen.ranked, chosen=True)
    ranking = tuple(final[each.ranked.source] for each in scored)
    warnings = tuple(warning for each in ranking for warning in _warnings(each))
    return Selection(loader.load(chosen.ranked.source), ranking, reason, warnings, confirm_seconds)


def _ordered(scored: Sequence[Scored]) -> list[Scored]:
    """By the probe, but first the largest LogME of those that the probe does not tell from its best."""
    best, *others = sorted(scored, key=rank_order)
    if best.ranked.probe is None:
        # With one sample a class LogME picks worse than chance.
        return [best, *others]
    tied = [best, *(each for each in others if probe_lead(best, each).errors <= _Z)]
    first = max(tied, key=_logme)
    return [first, *(each for each in (best, *others) if each is not first)]


def _logme(scored: Scored) -> float:
    found = scored.ranked.scores[_AMONG_TIES]
    return -math.inf if found is None else found


def _finalists(scored: Sequence[Scored]) -> list[Scored]:
    """The first two of the ranking; if both know test samples, the second is instead the best candidate that knows none
    and that the probe does not tell from the first, if there is one."""
    finalists = list(scored[:_FINALISTS])
    if all(each.ranked.leaks for each in finalists):
        clean = (each for each in scored if not each.ranked.leaks and probe_lead(scored[0], each).errors <= _Z)
        finalists[1:] = [*clean, *finalists[1:]][:1]
    return finalists


def _choose(finalists: Sequence[Scored], lead: Callable[[Scored, Scored], Lead]) -> tuple[Scored, str]:
    """The chosen one of one or two finalists in the probe's order, and the reason in a sentence.

    `lead` tells by how much one's fine-tuning is better than the other's.
    """
    first = finalists[0]
    if len(finalists) == 1:
        return first, f"{first.ranked.name} is the only candidate; {_probe_of(first.ranked)}."
    chosen, other = first, finalists[1]
    tuned = first.predictions is not None and other.predictions is not None
    leads = _lead_of(first, other)
    reason = f"{leads}; neither was fine-tuned."
    if tuned:
        found = lead(first, other)
        reached = (_with_error(each.ranked.confirmed, each.ranked.confirmed_error) for each in (first, other))
        validated = f"on validation ({' against '.join(reached)}, a difference of {found})"
        if -found.errors > min(max(probe_lead(first, other).errors, _Z), _DECISIVE):
            chosen, other = other, first
            reason = f"{leads}, but short fine-tunings speak more clearly for {chosen.ranked.name} {validated}."
        elif -found.errors > 1:
            reason = f"{leads}; short fine-tunings speak for the other, but not as clearly {validated}."
        else:
            finding = "confirm it" if found.errors > 1 else "do not tell the two apart"
            reason = f"{leads}, and short fine-tunings {finding} {validated}."
    behind = (lead if tuned else probe_lead)(chosen, other)
    if chosen.ranked.leaks and not other.ranked.leaks and behind.errors <= _Z:
        return other, (
            f"{other.ranked.name} is chosen because it knows no test samples of the target and is not told apart "
            f"from {chosen.ranked.name}, which does ({behind} for that one)."
        )
    return chosen, reason


def _lead_of(one: Scored, other: Scored) -> str:
    """Why the first stands before the second, as the beginning of a sentence."""
    first, second, lead = one.ranked, other.ranked, probe_lead(one, other)
    ours, theirs = (_with_error(each.probe, each.probe_error) for each in (first, second))
    if lead.errors > _Z:
        return f"{first.name} leads by the probe ({ours} against {theirs} of {second.name}), by {lead}"
    if first.probe is not None and _logme(one) > _logme(other):
        larger = f"{_logme(one):.3f} against {_logme(other):.3f}"
        return (
            f"{first.name} and {second.name} tie by the probe ({ours} against {theirs}, a difference of {lead}), "
            f"and the first has the larger LogME ({larger})"
        )
    if (first.probe or 0.0) > (second.probe or 0.0):
        return f"{first.name} and {second.name} tie by the probe ({ours} against {theirs}), the first ahead by {lead}"
    rule = "was named first"
    if first.seen < second.seen:
        rule = "was trained on fewer of the target's samples"
    elif first.parameters < second.parameters:
        rule = "is smaller"
    tied = f"that tie by the probe ({ours} against {theirs} of {second.name})"
    return f"{first.name} {rule}, of two {f'of which {_NO_PROBE}' if first.probe is None else tied}"


def _probe_of(ranked: Ranked) -> str:
    if ranked.probe is None:
        return _NO_PROBE
    return f"a probe of its features reaches {ranked.probe:.3f} [{ranked.probe_low:.3f}, {ranked.probe_high:.3f}]"


def _with_error(share: float | None, error: float | None) -> str:
    return "–" if share is None or error is None else f"{share:.3f} ± {error:.3f}"


def _shown(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"


def _warnings(ranked: Ranked) -> Iterator[str]:
    seen = ranked.overlap or dict.fromkeys(SPLITS, 0)
    worthless = "so what it reaches there says little about new ones."
    if seen["test"]:
        yield f"{ranked.name} was trained on {seen['test']:,} of the target's test samples, {worthless}"
    elif ranked.look_alikes:
        yield (
            f"{ranked.name} was trained on samples that are alike to {ranked.look_alikes:,} of the target's test "
            f"samples, {worthless}"
        )
    elif ranked.leaks:
        yield (
            f"{ranked.name} was trained on another split of the target's data and may know its test samples, "
            f"{worthless}"
        )
    elif seen["train"] or seen["val"]:
        yield (
            f"{ranked.name} was trained on {seen['train'] + seen['val']:,} of the target's training and validation "
            "samples, so its scores here flatter it."
        )
