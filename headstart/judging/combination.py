"""Combinations: contenders that are formed of strategies which tie, without further training."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headstart.judging.choice import ties
from headstart.judging.contenders import Contender
from headstart.judging.section import Evaluation
from headstart.metrics.classification import score
from headstart.metrics.predictions import Predictions, on_common_samples
from headstart.models.bundle import ModelBundle, bundle_digest, versions
from headstart.models.ensemble import ensemble, ensemble_name
from headstart.training.supervised import weights_digest
from headstart.training.trained import held_out_path

ENSEMBLE = "ensemble"
# What a combination has of its members' provenance, which all of them have alike.
_SHARED = ("role", "data_digest", "train_digest", "source", "source_digest", "seed", "head")


def combined(contenders: Sequence[Contender], evaluation: Evaluation, directory: Path) -> list[Contender]:
    """Form the combinations that the recipe asks for in `directory`; none where a single strategy is best.

    `ensemble` averages the calibrated probabilities of the strategies that tie; a prediction costs as many passes as
    it has members. What it predicts for held-out samples is the mean of what they predict.
    """
    tied = ties([each for each in contenders if each.kind == "transfer"])
    if ENSEMBLE not in evaluation.combinations or len(tied) < 2:
        return []
    # Strategies that all keep the probe they start from are one model.
    models: dict[str, tuple[Contender, ModelBundle]] = {}
    for each in tied:
        bundle = ModelBundle.load(each.path)
        models.setdefault(weights_digest(bundle.network), (each, bundle))
    if len(models) < 2:
        return []
    tied, bundles = (list(part) for part in zip(*models.values(), strict=True))
    inputs = [(each.architecture, each.preprocessing.to_dict()) for each in bundles]
    if any(each != inputs[0] for each in inputs):
        return []
    path = directory / ENSEMBLE
    _ensemble_of(tied, bundles).save(path)
    held_out = _mean([each.held_out for each in tied if each.held_out is not None])
    validation = math.nan
    if held_out is not None:
        held_out.save(held_out_path(path))
        validation = score(evaluation.metric, held_out.labels, held_out.predicted, len(held_out.classes))
    return [
        Contender(
            ENSEMBLE,
            "transfer",
            path,
            validation,
            seconds=sum(each.seconds for each in tied),
            run_id="",
            source=tied[0].source,
            members=tuple(each.strategy for each in tied),
        )
    ]


def _ensemble_of(members: Sequence[Contender], bundles: Sequence[ModelBundle]) -> ModelBundle:
    first = bundles[0]
    return replace(
        first,
        network=ensemble([each.network for each in bundles], [each.temperature for each in bundles]).eval(),
        architecture=ensemble_name(first.architecture, len(bundles)),
        temperature=1.0,
        provenance={
            **{key: first.provenance.get(key) for key in _SHARED},
            "strategy": ENSEMBLE,
            "members": [{"strategy": each.strategy, "digest": bundle_digest(each.path)} for each in members],
            "versions": versions(),
        },
    )


def _mean(held_out: Sequence[Predictions]) -> Predictions | None:
    if not held_out:
        return None
    found = on_common_samples(held_out)
    return replace(found[0], probabilities=np.mean([each.probabilities for each in found], axis=0))
