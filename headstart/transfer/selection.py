"""Source selection: which of several models should this target start from."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.sources import load_source
from headstart.storage.state import State
from headstart.training.progress import Progress
from headstart.transfer.features import vectors
from headstart.transfer.heads import cross_validated_probe


@dataclass(frozen=True)
class Ranked:
    """One candidate: its pinned reference and the cross-validated accuracy of a probe on its frozen features."""

    source: str
    architecture: str
    probe: float
    probe_error: float
    parameters: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Selection:
    """The chosen source and the ranking, best first, that it leads."""

    bundle: ModelBundle
    ranking: tuple[Ranked, ...]


def select_source(
    candidates: Sequence[str],
    dataset: Dataset,
    *,
    seed: int = 0,
    state: State | None = None,
    fetch_registered: Callable[[str], Path] | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Probes each pinned candidate's frozen features on the target's training labels and takes the best.

    The probe is cross-validated on the training split; neither validation nor test samples are read. Ties go to the
    smaller network, then to the earlier candidate. The features are kept in `state`, by default where the environment
    says, and serve the strategies that start from the chosen source.

    Raises:
        InputError: there is no candidate, or one cannot be loaded; it is named.
    """
    if not candidates:
        raise InputError("There is no source to choose from; give source.data or source.candidates.")
    state = state or State.from_environment()
    train = dataset.split("train")
    best: tuple[tuple[float, int], ModelBundle] | None = None
    ranking: list[Ranked] = []
    for index, uri in enumerate(candidates):
        start = time.perf_counter()
        bundle = load_source(uri, modality=dataset.modality, fetch_registered=fetch_registered)
        mean, error = cross_validated_probe(vectors(bundle, train, state), train.labels, seed=seed)
        parameters = sum(p.numel() for p in bundle.network.parameters())
        seconds = time.perf_counter() - start
        ranking.append(Ranked(uri, bundle.architecture, mean, error, parameters, seconds))
        # Only the best so far stays in memory: candidates may be large and many.
        if best is None or (mean, -parameters) > best[0]:
            best = ((mean, -parameters), bundle)
        if progress:
            progress("probing sources", index + 1, len(candidates), f"{bundle.architecture} {mean:.3f}")
    assert best is not None  # noqa: S101  (there was at least one candidate)
    ranking.sort(key=lambda ranked: (-ranked.probe, ranked.parameters))
    return Selection(best[1], tuple(ranking))
