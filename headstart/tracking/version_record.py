"""Record of one registered version: evidence, training samples including its sources', gaps in its lineage."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError, InputError
from headstart.models.reference import unpinned
from headstart.tracking import registry
from headstart.tracking.client import connect
from headstart.tracking.names import DATA_DIGEST, MODEL_DIGEST, ROLE, SOURCE_DIGEST, SOURCE_MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from headstart.judging.evidence import Evidence
    from headstart.models.sources import Background


@dataclass(frozen=True, eq=False)
class VersionRecord:
    """A registered version with the facts that gates read."""

    model: str
    version: str
    role: str
    evidence: "Evidence | None"
    learned_from: frozenset[str]
    """ids of the samples that it or one of its sources was trained on, as far as they are known"""
    gaps: tuple[str, ...]
    """the gaps in its lineage, one clause each"""
    unknown: tuple[str, ...] = ()
    """the sources with unknown training data"""
    digest: str | None = None
    """the digest that its bundle was registered with; None for versions that headstart has not registered"""

    @property
    def name(self) -> str:
        """Model and number, for example `digits-target/3`."""
        return f"{self.model}/{self.version}"

    @cached_property
    def bundle(self) -> Path:
        """The path of its bundle, downloaded at first access."""
        return registry.fetch(f"models:/{self.name}")


def read_version(client: "MlflowClient", version: "ModelVersion") -> VersionRecord:
    """Read the record of a registered version; follows its sources through the registry."""
    gaps: list[str] = []
    evidence = _evidence(client, version, gaps)
    learned_from = set(evidence.trained_on.tolist()) if evidence else set()
    unknown = _follow(client, version, gaps, learned_from, seen={(version.name, str(version.version))})
    return VersionRecord(
        model=version.name,
        version=str(version.version),
        role=version.tags.get(ROLE, ""),
        evidence=evidence,
        learned_from=frozenset(learned_from),
        gaps=tuple(gaps),
        unknown=tuple(unknown),
        digest=version.tags.get(MODEL_DIGEST),
    )


def without_evidence(version: "ModelVersion") -> VersionRecord:
    """Return the record of a registered version without reading its evidence and lineage."""
    number, role = str(version.version), version.tags.get(ROLE, "")
    return VersionRecord(version.name, number, role, None, frozenset(), (), digest=version.tags.get(MODEL_DIGEST))


def background(uri: str) -> "Background":
    """Return the facts that rank a candidate source: from a registered version's evidence, else from what
    is published."""
    from headstart.models.sources import Background, published_background

    if not uri.startswith("models:/"):
        return published_background(uri)
    client = connect()
    record = read_version(client, registry.find_version(client, uri))
    evidence = record.evidence
    if evidence is None:
        return Background()
    return Background(
        evidence.figures.get("test/accuracy"), record.learned_from, evidence.dataset, complete=not record.unknown
    )


def _evidence(client: "MlflowClient", version: "ModelVersion", gaps: list[str]) -> "Evidence | None":
    name = f"{version.name}/{version.version}"
    gaps.extend(f"{name} has no tag {tag}" for tag in (MODEL_DIGEST, DATA_DIGEST) if not version.tags.get(tag))
    try:
        evidence = registry.evidence(client, version)
    except HeadstartError as error:
        gaps.append(str(error).rstrip("."))
        return None
    gaps.extend(
        f"{name} has no {digest}" for digest in ("train_digest", "test_digest") if digest not in evidence.digests
    )
    if evidence.digests.get("data_digest") != version.tags.get(DATA_DIGEST):
        gaps.append(f"the evidence for {name} is about other data than its tag {DATA_DIGEST} says")
    return evidence


def _follow(
    client: "MlflowClient",
    version: "ModelVersion",
    gaps: list[str],
    learned_from: set[str],
    seen: set[tuple[str, str]],
) -> list[str]:
    """Add the gaps and training samples of the version's source, and of every source above it, to `gaps` and
    `learned_from`.

    Returns:
        The sources with unknown training data.
    """
    name, source = f"{version.name}/{version.version}", version.tags.get(SOURCE_MODEL)
    if not source:
        if version.tags.get(ROLE) in ("source", "baseline"):
            return []
        gaps.append(f"{name} names no source")
        return [f"the source of {name}"]
    unknown = [unpinned(source)]
    digest = version.tags.get(SOURCE_DIGEST)
    if not digest:
        gaps.append(f"{name} does not name the content of its source {source}")
    if not source.startswith("models:/"):
        return unknown
    try:
        origin = registry.find_version(client, source)
    except InputError:
        gaps.append(f"the source of {name}, {source}, is not in the registry any more")
        return unknown
    if digest and origin.tags.get(MODEL_DIGEST) != digest:
        gaps.append(f"{source} is not the model that {name} came from: its content is another")
        return unknown
    # Tags edited by hand can form a cycle.
    key = (origin.name, str(origin.version))
    if key in seen:
        gaps.append(f"{source} is named as its own source")
        return unknown
    if evidence := _evidence(client, origin, gaps):
        learned_from.update(evidence.trained_on.tolist())
        unknown = []
    return [*unknown, *_follow(client, origin, gaps, learned_from, seen | {key})]
