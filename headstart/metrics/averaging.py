"""Weights of models by their losses on held-out samples: which may be the best, and by what they are averaged."""

from collections.abc import Sequence

import numpy as np

from headstart.metrics.groups import group_numbers
from headstart.metrics.predictions import Predictions, on_common_samples

# A model of less weight costs a prediction as much as others and moves it little.
_LEAST_WEIGHT = 0.1
# Of an average, which costs a prediction by each.
_MOST_MEMBERS = 3
# Of the log losses, by which an average is weighted.
_SHARE = 1 / 8
_DRAWS = 1000
# Values that are in memory at a time.
_CHUNK = 1_000_000


def weights_by_held_out(held_out: Sequence[Predictions | None]) -> list[tuple[int, float]]:
    """The models that held-out samples do not tell from the best, by their positions, and the weight of each; largest
    first. Empty where the models have no samples in common.

    The weights, which add up to 1, are those of `pseudo_bma` on the common samples, or on the groups that these belong
    to; those under 0.1 are dropped. Of models that predict the same, the first one stands for all.
    """
    found = in_common(held_out)
    if not found:
        return []
    losses = np.stack([each.losses for each in found])
    told = _told(found, losses)
    shares = pseudo_bma(_by_group(losses[told], found[0].groups))
    # Of more than ten that tie each has less.
    shares = np.where(shares < min(_LEAST_WEIGHT, shares.max()), 0.0, shares)
    return _ranked(told, shares / shares.sum())


def weights_in_average(held_out: Sequence[Predictions | None], voices: Sequence[int]) -> list[tuple[int, float]]:
    """The models whose outputs are averaged, three at most, by their positions, and the weight of each; largest first.
    Empty where the models have no samples in common.

    The weights, which add up to 1, are those of `pseudo_bma` by an eighth of the log losses: what is known of a model
    are predictions of a few trainings with fewer labels, and their samples share what these trainings have of their
    own. Models of equal `voices`, one number for each, are weighed among themselves, and their mixture beside those of
    other voices. The model of the least weight is left out and the others are weighed anew until there are three, each
    of at least 0.1. Of models that predict the same, the first one stands for all. docs/studies/choice.md compares
    rules.
    """
    found = in_common(held_out)
    if not found:
        return []
    losses, voice_of = np.stack([each.losses for each in found]), np.asarray(voices)
    told = _told(found, losses)
    while True:
        weights = _weights_of_voices(losses[told], voice_of[told], found[0].groups)
        if len(told) == 1 or (len(told) <= _MOST_MEMBERS and weights.min() >= _LEAST_WEIGHT):
            return _ranked(told, weights)
        told.pop(int(np.argmin(weights)))


def _weights_of_voices(losses: np.ndarray, voice_of: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The weights (M,) of models with log losses (M, N): of each among those of its voice, int (M,), times that of
    their mixture among the mixtures of all voices."""
    from scipy.special import logsumexp

    within, mixtures, names = np.empty(len(losses)), [], np.unique(voice_of)
    for name in names:
        own = voice_of == name
        within[own] = pseudo_bma(_SHARE * _by_group(losses[own], groups))
        mixtures.append(-logsumexp(-losses[own], axis=0, b=within[own, None]))
    between = pseudo_bma(_SHARE * _by_group(np.stack(mixtures), groups))
    weights: np.ndarray = within * between[np.searchsorted(names, voice_of)]
    return weights


def _told(found: Sequence[Predictions], losses: np.ndarray) -> list[int]:
    """The positions of the models with `losses` (M, N) that predict something of their own, that of the least loss
    first."""
    told: list[int] = []
    # Python's sort keeps the order of equal models.
    for number in sorted(range(len(found)), key=lambda number: losses[number].mean()):
        if not any(found[number].is_same(found[other]) for other in told):
            told.append(number)
    return told


def _ranked(numbers: Sequence[int], weights: np.ndarray) -> list[tuple[int, float]]:
    order = np.argsort(-weights, kind="stable")
    return [(numbers[row], float(weights[row])) for row in order if weights[row]]


def best_by_metric(reached: Sequence[float]) -> list[int]:
    """The positions of the models that may be the best by what they `reached` on held-out samples alone: the highest,
    or all without a finite figure.

    Of labels that all had to be learned none could be held out: a model that learned from them is not told apart from
    another one, and goes before those that learned nothing and so could be judged.
    """
    unknown = np.flatnonzero(~np.isfinite(reached)).tolist()
    return unknown or [int(np.argmax(reached))]


def in_common(held_out: Sequence[Predictions | None]) -> list[Predictions]:
    """The held-out predictions of all models for the samples that they have in common; empty where there are none."""
    known = [each for each in held_out if each is not None]
    found = on_common_samples(known) if known and len(known) == len(held_out) else []
    return found if found and len(found[0].ids) else []


def _by_group(losses: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The losses (M, N) of samples, added up within each group: (M, G)."""
    numbers = group_numbers(groups)
    return losses if numbers is None else np.stack([np.bincount(numbers, weights=row) for row in losses])


def pseudo_bma(losses: np.ndarray) -> np.ndarray:
    """Weights (M,) of M models with log losses (M, N) on N samples, or on N groups of them: pseudo-BMA+.

    Yao, Vehtari, Simpson and Gelman 2018, "Using stacking to average Bayesian predictive distributions", section 3.4:
    the mean, over Bayesian bootstraps of the samples (Rubin 1981), of exp(-l_m) / Σ exp(-l) with l a model's loss over
    all samples. The bootstrap keeps few samples from speaking for one model alone. Equal losses give equal weights.
    """
    models, samples = losses.shape
    generator = np.random.default_rng(0)
    total = np.zeros(models)
    step = max(1, _CHUNK // max(samples, 1))
    for start in range(0, _DRAWS, step):
        draws = generator.standard_exponential((min(step, _DRAWS - start), samples))
        draws *= samples / draws.sum(axis=1, keepdims=True)
        likelihood = -draws @ losses.T
        shares = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        total += (shares / shares.sum(axis=1, keepdims=True)).sum(axis=0)
    weights: np.ndarray = total / total.sum()
    return weights
