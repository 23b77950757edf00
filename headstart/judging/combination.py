"""Combinations: contenders that are formed of others, without further training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headstart.judging.choice import unbeaten, weights
from headstart.judging.contenders import ENSEMBLE, Contender
from headstart.judging.section import Evaluation
from headstart.metrics.averaging import weights_in_average
from headstart.metrics.predictions import Predictions, on_common_samples
from headstart.metrics.task import REGRESSION, SINGLE_LABEL, Calibration
from headstart.modalities.preprocessing import Preprocessing
from headstart.models.bundle import ModelBundle, bundle_digest, versions
from headstart.models.ensemble import Renormalised, ensemble, ensemble_name, renormalised
from headstart.training.supervised import weights_digest
from headstart.training.trained import held_out_path

# What a combination has of its members' provenance, which all that use the source have alike.
_SHARED = ("role", "data_digest", "train_digest", "source", "source_digest", "seed", "head")


def combined(contenders: Sequence[Contender], evaluation: Evaluation, directory: Path) -> list[Contender]:
    """Form the combinations that the recipe asks for in `directory`; none where a single contender is best.

    `ensemble` averages the calibrated probabilities, or numbers, of up to three strategies and baselines by
    `weights_in_average`; a prediction costs as many passes as it has members. What it predicts for held-out samples is
    the mean of what they predict. Strategies are one voice beside each baseline: they have the source, err alike, and
    would outvote what learned from the target alone.

    Baselines that read samples in another way than the strategies do, as in colour, are left out, and so are starts
    that a training has beaten and smaller copies of models, which would be averaged with their originals; there is none
    without a strategy among its members.
    """
    strategies = unbeaten([each for each in contenders if each.kind == "transfer" and each.original is None])
    if ENSEMBLE not in evaluation.combinations or not strategies:
        return []
    # All strategies read samples as the source does.
    reading = ModelBundle.load(strategies[0].path).preprocessing
    baselines = _alike(contenders, reading)
    members: dict[str, _Member] = {}
    for each, weight in _weighted(strategies, baselines):
        bundle = ModelBundle.load(each.path)
        own = renormalised(reading, bundle.preprocessing)
        assert own is not None  # noqa: S101 (those that read in another way were left out)
        # Strategies that all keep the probe they start from are one model.
        digest = weights_digest(bundle.network)
        first = members.get(digest)
        members[digest] = replace(first, weight=first.weight + weight) if first else _Member(each, weight, bundle, own)
    found = list(members.values())
    if len(found) < 2 or all(each.contender.kind == "baseline" for each in found):
        return []
    return [_ensemble_of(found, evaluation, directory / ENSEMBLE)]


def trained_again(
    bundle: ModelBundle, shown: Mapping[str, Predictions], retrained: Mapping[str, Iterable[Predictions]]
) -> list[np.ndarray]:
    """What the combination in `bundle` would answer, as `Predictions.predicted`, had its members been trained with
    other seeds; none where one that is trained in steps was trained once.

    `shown` and `retrained` are test predictions by strategy: of the members' own trainings, and of those with other
    seeds of each that is trained in steps. The others do not depend on the seed, nor do the weights here.
    """
    weights = {each["strategy"]: each["weight"] for each in bundle.provenance["members"]}
    varying = [name for name in weights if name in retrained]
    answers = []
    for found in zip(*(retrained[name] for name in varying), strict=False):
        members = {**shown, **dict(zip(varying, found, strict=True))}
        mean = np.average([members[name].outputs for name in weights], axis=0, weights=list(weights.values()))
        # As the network gives them, whose temperature, thresholds and margin come after the average.
        logits = bundle.kind.logits(mean, Calibration())
        answers.append(bundle.kind.predicted(bundle.kind.outputs(logits, bundle.calibration)))
    return answers


def _weighted(strategies: Sequence[Contender], baselines: Sequence[Contender]) -> list[tuple[Contender, float]]:
    contenders = [*strategies, *baselines]
    found = weights_in_average([each.held_out for each in contenders], voices(strategies, baselines))
    return [(contenders[number], weight) for number, weight in found] or weights(contenders)


def voices(strategies: Sequence[Contender], baselines: Sequence[Contender]) -> list[int]:
    """The voice of each in `weights_in_average`: strategies are one, and each baseline is one of its own."""
    return [0] * len(strategies) + list(range(1, len(baselines) + 1))


def _alike(contenders: Sequence[Contender], reading: Preprocessing) -> list[Contender]:
    """The baselines that read samples as the strategies do. One without held-out predictions would leave the strategies
    to be told apart by their metric alone, and is left out."""
    judged = [each for each in contenders if each.kind == "baseline" and each.is_kept and each.held_out is not None]
    return [each for each in judged if renormalised(reading, ModelBundle.load(each.path).preprocessing)]


@dataclass(frozen=True)
class _Member:
    contender: Contender
    weight: float
    bundle: ModelBundle
    input: Renormalised


def _ensemble_of(members: Sequence[_Member], evaluation: Evaluation, path: Path) -> Contender:
    together, held_out, validation = _together(members), _mean(members), math.nan
    if held_out is not None and held_out.task != SINGLE_LABEL:
        # The mean of calibrated probabilities asks for thresholds of its own, and that of numbers for a deviation.
        logits = held_out.kind.logits(held_out.outputs, together.calibration)
        together.calibrate(logits, held_out.labels, held_out.groups)
        if held_out.task == REGRESSION:
            # The mean of several is closer than each of them, but their weights were chosen by these very errors: in
            # five runs of angles.yaml the errors' own quantile held 85% of new numbers.
            margins = [(each.weight, each.bundle.margin) for each in members]
            known = [weight * margin for weight, margin in margins if margin is not None]
            together.margin = sum(known) if len(known) == len(members) else None
        held_out = replace(held_out, outputs=held_out.kind.outputs(logits, together.calibration))
    together.save(path)
    if held_out is not None:
        held_out.save(held_out_path(path))
        validation = held_out.score(evaluation.metric)
    return Contender(
        ENSEMBLE,
        "transfer",
        path,
        validation,
        seconds=sum(each.contender.seconds for each in members),
        run_id="",
        source=next(each.contender.source for each in members if each.contender.kind == "transfer"),
        members=tuple(each.contender.strategy for each in members),
    )


def _together(members: Sequence[_Member]) -> ModelBundle:
    """The members as one bundle, which reads samples as they do."""
    first = next(each.bundle for each in members if each.contender.kind == "transfer")
    licences = sorted({str(found) for each in members if (found := each.bundle.provenance.get("license"))})
    return replace(
        first,
        network=ensemble(
            [each.bundle.network for each in members],
            [each.bundle.temperature for each in members],
            [each.input for each in members],
            [each.weight for each in members],
        ).eval(),
        architecture=ensemble_name([each.bundle.architecture for each in members]),
        temperature=1.0,
        margin=None,
        thresholds=None,
        provenance={
            **{key: first.provenance.get(key) for key in _SHARED},
            "strategy": ENSEMBLE,
            "members": [
                {
                    "strategy": each.contender.strategy,
                    "digest": bundle_digest(each.contender.path),
                    "weight": each.weight,
                }
                for each in members
            ],
            **({"license": " AND ".join(licences)} if licences else {}),
            "versions": versions(),
        },
    )


def _mean(members: Sequence[_Member]) -> Predictions | None:
    held_out = [each.contender.held_out for each in members]
    known = [each for each in held_out if each is not None]
    if len(known) < len(members):
        return None
    found, shares = on_common_samples(known), [each.weight for each in members]
    return replace(found[0], outputs=np.average([each.outputs for each in found], axis=0, weights=shares))
