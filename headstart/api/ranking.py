"""Sources in Python: `rank`, which says from which model a data set should start."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.api.record import opened
from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.reference import fingerprint
from headstart.data.section import Data
from headstart.environment import environment
from headstart.judging.selection import Selection, select_source
from headstart.models.reference import RECORD
from headstart.models.sources import pin_sources
from headstart.recipe.inputs import settled_input
from headstart.recipe.recipe import Recipe
from headstart.storage import s3
from headstart.storage.state import STATE_VARIABLE
from headstart.tracking import registry
from headstart.tracking.version_record import background
from headstart.training.section import Training
from headstart.workspace import find_workspace

if TYPE_CHECKING:
    import pandas as pd

    from headstart.training.progress import Progress

_FOLDER = "rank"


@dataclass(frozen=True, eq=False)
class Ranking:
    """Candidate sources for a data set, best first."""

    dataset: Dataset
    selection: Selection

    @property
    def chosen(self) -> str:
        """The address of the source to start from, pinned to its content."""
        return next(ranked.source for ranked in self.selection.ranking if ranked.chosen)

    @property
    def reason(self) -> str:
        """Why that one, in a sentence with the figures and their standard errors."""
        return self.selection.reason

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes a score worth less: candidates that have seen samples of the data set."""
        return self.selection.warnings

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each candidate: source, probe, its interval, kNN, every transferability score, seconds, …"""
        import pandas as pd

        return pd.DataFrame([ranked.to_dict() for ranked in self.selection.ranking])

    def _repr_html_(self) -> str:
        shown = self.table[["source", "probe", "probe_low", "probe_high", "knn", "parameters", "chosen"]]
        return f"<p>{escape(self.reason)}</p>{shown.to_html(index=False)}"


def rank(
    data: str | Path,
    candidates: Sequence[str],
    *,
    confirm: bool = False,
    modality: str = "image",
    seed: int = 0,
    workspace: str | Path | None = None,
    progress: "Progress | None" = None,
    **settings: Any,
) -> Ranking:
    """Rank candidate sources by how well a data set would start from them, without fine-tuning them all.

    The packed data set and the features stay in the workspace, where the next call and a run find them.

    Args:
        data: the target's samples, as for `prepare`.
        candidates: addresses of models as for `load`, or searches: `models:/*-source`, `models:/*-source[tag=value]`.
        confirm: fine-tune the two best for a quarter of the epochs.
        modality: what the samples are.
        seed: decides the splits and the folds.
        workspace: as for `load`.
        progress: called with what is done so far.
        settings: further keys of a recipe's `data`: `labels_per_class`, `split`, `task`, `input`, `size`, ….

    Raises:
        InputError: the data or a candidate cannot be reached; it is named.
    """
    section = Data.of({**settings, "uri": str(data)})
    place = (find_workspace() if workspace is None else Path(workspace)).absolute()
    registered = any(uri.startswith(RECORD) for uri in candidates)
    with (
        opened(workspace) if registered else nullcontext(),
        # Where a run's steps keep their features too: one that follows reads those of the chosen source.
        environment({STATE_VARIABLE: os.environ.get(STATE_VARIABLE, str(place / "state"))}),
    ):
        place.mkdir(parents=True, exist_ok=True)
        pinned = pin_sources(candidates, resolve_registered=registry.resolve, search_registered=registry.search)
        dataset = _prepared(section, pinned, place / _FOLDER, modality=modality, seed=seed)
        selection = select_source(
            pinned,
            dataset,
            training=Training() if confirm else None,
            seed=seed,
            fetch_registered=registry.fetch,
            background=background,
            progress=progress,
        )
    return Ranking(dataset, selection)


@s3.listed_once()
def _prepared(section: Data, candidates: Sequence[str], folder: Path, *, modality: str, seed: int) -> Dataset:
    """The packed data set, one that was packed before where nothing has changed since."""
    recipe = Recipe.of(
        {
            "name": _FOLDER,
            "modality": modality,
            "source": {"candidates": candidates},
            "target": {"data": {"uri": section.uri}},
        }
    )
    given = settled_input(section, recipe)
    mark = fingerprint(section.uri)
    shares = section.split.model_dump()
    content: list[Any] = [mark or section.uri, modality, given, section.labels_per_class, shares, seed]
    if section.task != "auto":
        # Packed data of before there were tasks stay found.
        content += [section.task, section.label_budget]
    place = folder / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    if mark and (place / "manifest.json").exists():
        return Dataset.open(place)
    return prepare(section.model_copy(update={"input": given}), place, modality=modality, seed=seed)
