"""Inputs of every trial: the target's packed data set, and the sources as bundles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.data.dataset import Dataset
from headstart.data.finished import FinishedData
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.judging.overlap import overlap
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.reference import pin_of, unpinned
from headstart.models.sources import load_source
from headstart.searching.space import Candidate
from headstart.tracking.candidates import offer


@dataclass(frozen=True)
class Source:
    """A source that is searched, with its pinned reference and digest."""

    candidate: Candidate
    reference: str
    digest: str

    @property
    def name(self) -> str:
        """Its reference without the pin."""
        return self.candidate.name


@dataclass(frozen=True)
class Sources:
    """The sources that are searched, their bundles by their names, and notes on those that are left out."""

    searched: tuple[Source, ...]
    places: dict[str, Path]
    notes: tuple[str, ...]


def prepared_target(data: Data, place: Path, *, modality: str, seed: int, run_id: str) -> Dataset:
    """The target, packed at `place` unless it is there: taken over from the state, or prepared, and then kept there in
    the name of the MLflow run `run_id`, so that the final run takes it over.

    Raises:
        InputError: the data cannot be read.
    """
    finished = FinishedData.of(data, "target", modality=modality, seed=seed)
    if (place / "manifest.json").exists() or (finished and finished.fetch(place)):
        return Dataset.open(place)
    dataset = prepare(data, place, modality=modality, labels=data.labels_for("target"), seed=seed)
    if finished:
        finished.keep(dataset, run_id)
    return dataset


def require_held_out(dataset: Dataset, uri: str) -> None:
    """Refuse a target of which no labels are held out.

    Raises:
        InputError: so it is.
    """
    if dataset.counts["val"] == 0:
        raise InputError(
            f"No labels of {uri} are held out, by which a search could choose; raise target.data.labels_per_class."
        )


def load_sources(candidates: Sequence[str], dataset: Dataset, folder: Path) -> Sources:
    """Save the candidates as bundles below `folder`. One that was trained on samples of the target would be chosen for
    that, so it is not searched where another one is.

    Raises:
        InputError: a candidate cannot be reached, or does not fit the target.
    """
    offered = offer(candidates, None)
    clean: list[Source] = []
    known: list[Source] = []
    places = {}
    for uri in offered.references:
        path = folder / str(pin_of(uri)).rpartition("=")[2][:16]
        if not path.exists():
            load_source(uri, modality=dataset.modality, fetch_registered=offered.fetch).save(path)
        bundle = ModelBundle.load(path)
        candidate = Candidate(unpinned(uri), bundle.architecture, len(bundle.network.stages))
        source = Source(candidate, uri, bundle_digest(path))
        places[source.name] = path
        seen = overlap(bundle, offered.background(uri), dataset, look_alikes=False)
        (known if seen.leaks or any((seen.samples or {}).values()) else clean).append(source)
    notes = [f"{each.name} is left out: it was trained on samples of the target." for each in known] if clean else []
    return Sources(tuple(clean or known), places, tuple(notes))
