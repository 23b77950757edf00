"""A model's figures on labelled samples, in Python."""

from collections.abc import Collection
from pathlib import Path

from headstart.api.models import load
from headstart.api.record import opened
from headstart.judging.evidence import EVIDENCE, Evidence
from headstart.judging.measurement import Measurement, measure
from headstart.models.reference import REGISTRY, unpinned
from headstart.tracking.registry import find_version
from headstart.tracking.version_record import read_version
from headstart.training.engine import move_to_training_device


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    metric: str | None = None,
    workspace: str | Path | None = None,
) -> Measurement:
    """Measure a model on labelled samples, with intervals; those that it was trained on are left out.

    The figures are in `figures`, and the samples with what was predicted in `table`.

    Args:
        model: as for `load`.
        data: labelled samples, as for `prepare`: a folder of class folders, an archive, a table.
        metric: the one that decides; None: the one that the model was chosen by, else accuracy, or for
            numbers mae.
        workspace: as for `load`.

    Raises:
        InputError: there is no such model or metric, the samples have no labels or a class that the model does not
            know, or it was trained on all of them.
    """
    loaded = load(model, workspace=workspace)
    evidence, trained_on = _background(unpinned(loaded.reference), workspace)
    move_to_training_device(loaded.bundle.network)
    return measure(
        loaded.bundle,
        str(data),
        metric=metric or (evidence.metric if evidence else loaded.bundle.kind.default_metric),
        trained_on=trained_on,
        tested_on=evidence.predictions.ids.tolist() if evidence else (),
    )


def _background(reference: str, workspace: str | Path | None) -> tuple[Evidence | None, Collection[str] | None]:
    """The evidence that lies with a model, and the ids of the samples that it was trained on; None where unknown."""
    if reference.startswith(REGISTRY):
        with opened(workspace) as client:
            version = read_version(client, find_version(client, reference))
        return version.evidence, version.learned_from if version.evidence else None
    place = Path(reference) / EVIDENCE
    if not place.is_dir():
        return None, None
    evidence = Evidence.load(place)
    return evidence, frozenset(evidence.trained_on.tolist())
