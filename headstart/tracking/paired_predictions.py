"""Predictions of challenger and champion for the same test samples: stored, or computed again."""

from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError, InputError
from headstart.judging.pairing import ComparisonError, Pair, evaluated_pair, stored_pair

if TYPE_CHECKING:
    from headstart.data.dataset import Split
    from headstart.judging.evidence import Evidence
    from headstart.models.bundle import ModelBundle
    from headstart.tracking.version_record import VersionRecord


def paired_predictions(challenger: "VersionRecord", champion: "VersionRecord", data: Path | None = None) -> Pair | str:
    """Return the predictions of both for the challenger's test samples that neither was trained on, or a clause with
    the reason why they cannot be compared.

    Stored predictions are used if they are for the same samples. Otherwise both bundles predict the challenger's test
    split from the packed data set `data`, by default the one that it was evaluated on.

    Raises:
        InputError: `data` does not have the challenger's test split.
    """
    ours, theirs = challenger.evidence, champion.evidence
    if ours is None or theirs is None:
        return f"version {(challenger if ours is None else champion).version} has no evidence"
    if not (ours.predictions.classes and theirs.predictions.classes):
        unlabelled = theirs if ours.predictions.classes else ours
        return f"the data of version {(challenger if unlabelled is ours else champion).version} has no labels"
    try:
        pair = None
        if ours.digests.get("test_digest") == theirs.digests.get("test_digest"):
            pair = stored_pair(ours.predictions, theirs.predictions)
        if pair is None:
            test, classes = _test_split(ours, data)
            first, second = _loaded(challenger), _loaded(champion)
            pair = evaluated_pair(first, second, test, classes)
        return pair.without(challenger.learned_from | champion.learned_from)
    except ComparisonError as error:
        return str(error)


def _loaded(version: "VersionRecord") -> "ModelBundle":
    """Load the version's bundle, onto the device that trains.

    Raises:
        ComparisonError: it cannot be loaded.
    """
    from headstart.models.bundle import ModelBundle
    from headstart.training.engine import move_to_training_device

    try:
        bundle = ModelBundle.load(version.bundle)
    except HeadstartError as error:
        raise ComparisonError(f"version {version.version} cannot be loaded: {error}") from error
    move_to_training_device(bundle.network)
    return bundle


def _test_split(evidence: "Evidence", data: Path | None) -> tuple["Split", tuple[str, ...]]:
    """Return the test split that the evidence is about, and its class names.

    Raises:
        ComparisonError: it cannot be reached.
        InputError: the given `data` does not have it.
    """
    import numpy as np

    from headstart.data.dataset import Dataset
    from headstart.data.hashing import merkle_digest
    from headstart.metrics.tally import is_of_classes

    wanted = evidence.digests.get("test_digest")
    if data is None and not Path(evidence.dataset).is_dir():
        raise ComparisonError(
            "their stored predictions are about different items, and the challenger's data set is not on this machine "
            f"at {evidence.dataset}; give it with --data DIR"
        )
    try:
        dataset = Dataset.open(data or evidence.dataset)
        test, names = dataset.split("test"), np.array(dataset.classes)
    except InputError as error:
        if data is None:
            raise ComparisonError(f"{str(error).rstrip('.')}, or give it with --data DIR") from error
        raise
    if is_of_classes(test.labels):
        found = merkle_digest(zip(test.paths.tolist(), test.ids.tolist(), names[test.labels].tolist(), strict=True))
    else:
        # A number may be written in several ways.
        found = dataset.split_digest("test")
    if found != wanted:
        problem = f"{dataset.path} does not have the test split {wanted} that the challenger was tested on"
        if data is None:
            raise ComparisonError(f"{problem} any more; give a data set that has it with --data DIR")
        raise InputError(f"{problem}, but {found}; give the packed data set that lay at {evidence.dataset}.")
    return test, dataset.classes
