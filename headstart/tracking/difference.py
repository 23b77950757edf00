"""The difference between two registered versions: how they were made, and what they say about the same samples."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.figures import figure
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.groups import count_groups, of_groups
from headstart.metrics.intervals import Interval
from headstart.metrics.marks import wrong_labels
from headstart.metrics.metric import METRICS, metric_title
from headstart.metrics.tally import is_of_classes, is_of_several
from headstart.metrics.task import REGRESSION
from headstart.models.bundle import ModelBundle
from headstart.tracking.paired_predictions import paired_predictions
from headstart.tracking.registry import find_version
from headstart.tracking.version_record import VersionRecord, read_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What a bundle says of its training that is no setting, and what is written in another way.
_OTHERWISE = ("history", "kept_epoch", "members")


@dataclass(frozen=True)
class Setting:
    """Something that the two versions were made with, and that is not the same; None where one does not have it."""

    name: str
    one: str | None
    other: str | None


@dataclass(frozen=True)
class Recall:
    """The recall of a class by both."""

    name: str
    samples: int
    one: float
    other: float


@dataclass(frozen=True)
class Difference:
    """The other version less the one."""

    one: str
    other: str
    settings: tuple[Setting, ...]
    metric: str | None = None
    gain: Interval | None = None
    """of the metric on the other's test samples that neither was trained on; None where `reason` says why"""
    reason: str | None = None
    samples: int = 0
    groups: int | None = None
    fixed: int = 0
    """samples that only the other gets right; numbers that it comes closer to"""
    broken: int = 0
    """samples that only the one gets right, or comes closer to"""
    classes: tuple[Recall, ...] = ()

    @property
    def sentence(self) -> str:
        """What the change of version does."""
        if self.gain is None:
            return f"{self.other} and {self.one} cannot be compared: {self.reason}."
        low, high = self.gain.low, self.gain.high
        gain = f"{figure(self.gain.value, signed=True)} [{figure(low, signed=True)}, {figure(high, signed=True)}]"
        told = f"gets {self.fixed:,} right that were wrong and {self.broken:,} wrong that were right"
        if self.metric and self.metric in METRICS and REGRESSION in METRICS[self.metric].tasks:
            gain = f"by {gain}"
            told = f"comes closer to {self.fixed:,} and is farther off from {self.broken:,}"
        word = "better than" if low > 0 else "worse than" if high < 0 else "not told from"
        return (
            f"{self.other} is {word} {self.one}: {gain} {metric_title(self.metric or '')} on {self.samples:,} samples"
            f"{of_groups(self.groups)}, of which it {told}."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        found = asdict(self)
        return {**found, "gain": self.gain and self.gain.to_list(), "sentence": self.sentence}


def difference(client: "MlflowClient", one: str, other: str, *, data: Path | None = None) -> Difference:
    """Compare two registered versions.

    Args:
        one, other: models:/name@alias, models:/name/version or models:/name.
        data: the packed data set that the other was tested on, where it is no longer at its recorded path.

    Raises:
        InputError: there is no such version, or `data` does not have the other's test split.
    """
    versions = [find_version(client, uri) for uri in (one, other)]
    first, second = (read_version(client, each) for each in versions)
    made = [
        dict(_made(record, client.get_run(version.run_id).data.params if version.run_id else {}))
        for record, version in zip((first, second), versions, strict=True)
    ]
    names = sorted(made[0].keys() | made[1].keys())
    settings = [Setting(name, made[0].get(name), made[1].get(name)) for name in names]
    changed = tuple(each for each in settings if each.one != each.other)
    pair = paired_predictions(second, first, data)
    if isinstance(pair, str):
        return Difference(first.name, second.name, changed, reason=pair)
    metric = second.evidence.metric if second.evidence else "accuracy"
    if is_of_classes(pair.labels):
        ours, theirs = pair.ours == pair.labels, pair.theirs == pair.labels
    else:
        # Of two numbers the closer one is right, and of two sets of labels the one with fewer wrong.
        errors, others = (_errors(each, pair.labels) for each in (pair.ours, pair.theirs))
        ours, theirs = errors < others, others < errors
    recalls = (
        Recall(name, int(of.sum()), float(theirs[of].mean()), float(ours[of].mean()))
        for number, name in enumerate(pair.classes)
        if is_of_classes(pair.labels) and (of := pair.labels == number).any()
    )
    return Difference(
        first.name,
        second.name,
        changed,
        metric=metric,
        gain=paired_bootstrap_gain(metric, pair.labels, pair.ours, pair.theirs, len(pair.classes), groups=pair.groups),
        samples=len(pair.labels),
        groups=count_groups(pair.groups),
        fixed=int(np.sum(ours & ~theirs)),
        broken=int(np.sum(theirs & ~ours)),
        classes=tuple(recalls),
    )


def _made(record: VersionRecord, params: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What a version was made with: what its bundle says, and the parameters of its run."""
    bundle = ModelBundle.load(record.bundle)
    yield "architecture", bundle.architecture
    yield "reads", bundle.preprocessing.described
    yield "classes", ", ".join(bundle.classes)
    yield from _flat({key: value for key, value in bundle.provenance.items() if key not in _OTHERWISE})
    if members := bundle.provenance.get("members"):
        yield "members", ", ".join(f"{each['strategy']} ({each['weight']:.2f})" for each in members)
    # MLflow holds texts alone.
    yield from ((name, value) for name, value in params.items() if value != "None")


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", str(value)


def _errors(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How far each predicted number is off, float (N,), or how many known labels are wrong, int (N,)."""
    if is_of_several(labels):
        return wrong_labels(labels, predicted)
    errors: np.ndarray = np.abs(predicted - labels)
    return errors
