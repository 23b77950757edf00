"""Contenders: trained strategies and baselines before they are compared, and what they predict for the test split."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from headstart.judging.serving_cost import ServingCost
from headstart.metrics.predictions import Predictions
from headstart.metrics.task import TASKS

Kind = Literal["transfer", "baseline"]
Head = Literal["source", "fitted"]

SCRATCH = "scratch"
# The best constant answers, such as the test split's most frequent class, as sentences name them: baselines without
# training, which no recipe can name.
GUESSES = {task.guess_title: f"the test's {task.guess_title}" for task in TASKS.values()}
# The contender that is formed of others.
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Contender:
    """A trained strategy or baseline before it is judged: its place and the result of its training.

    `path` is a model bundle, or a Parquet file with test predictions where the model itself cannot be kept.
    `members` are the strategies of which a combination is formed. `original` is the strategy of whose model this is a
    smaller copy.
    """

    strategy: str
    kind: Kind
    path: Path
    validation: float
    seconds: float
    run_id: str
    source: str | None = None
    members: tuple[str, ...] = ()
    original: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the model itself is kept, and not only what it predicts."""
        return self.path.is_dir()

    @cached_property
    def held_out(self) -> Predictions | None:
        """Calibrated predictions for samples that its training did not see; None where there are none."""
        from headstart.training.trained import read_held_out

        return read_held_out(self.path)

    @property
    def start(self) -> Head | None:
        """The head on the source's features that this model is, or that its training began with: the source's own, or
        one that was fitted to them. None for a new head, and for what did not begin with the source's features."""
        head = self._provenance.get("decisions", {}).get("head", "new")
        return None if head == "new" else "source" if head == "source" else "fitted"

    @property
    def is_training(self) -> bool:
        """Whether this was trained in steps, although the start may have been kept."""
        return "kept_epoch" in self._provenance

    @property
    def beats_start(self) -> bool:
        """Whether this is a training that was kept because held-out samples told it from its `start`."""
        return self.start is not None and self.is_training and self._provenance["kept_epoch"] != 0

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        from headstart.models.bundle import read_provenance

        return read_provenance(self.path)

    def to_metadata(self) -> dict[str, Any]:
        """JSON values for an artifact's metadata, of what is known; the path is the artifact's own, and no artifact is
        a combination."""
        unknown = {"path", "members", *(() if math.isfinite(self.validation) else ("validation",))}
        return {key: value for key, value in asdict(self).items() if key not in unknown and value is not None}

    @classmethod
    def from_metadata(cls, path: Path, metadata: dict[str, Any]) -> "Contender":
        """The contender that `to_metadata` wrote, at the artifact's path; further keys are the artifact's own."""
        keys = cls.__dataclass_fields__.keys() & metadata.keys() - {"path"}
        # Metadata hold no NaN and no None.
        return cls(path=path, **{"validation": math.nan, **{key: metadata[key] for key in keys}})


@dataclass(frozen=True, eq=False)
class Candidate:
    """A contender with its predictions on the test split, and what its model costs; None where that is not kept."""

    contender: Contender
    predictions: Predictions
    cost: ServingCost | None = None


def read_contenders(bundles: Iterable[tuple[str, dict[str, Any]]], source: str, baselines: Path) -> list[Contender]:
    """The strategies that started from `source`, each by its bundle's path and metadata, and then the baselines."""
    trained = [Contender.from_metadata(Path(path), {**metadata, "source": source}) for path, metadata in bundles]
    return [*trained, *read_baselines(baselines)]


def read_baselines(directory: Path) -> list[Contender]:
    """The contenders that `directory/baselines.json` lists."""
    listed = json.loads((directory / "baselines.json").read_text())
    return [Contender.from_metadata(directory / entry["path"], entry) for entry in listed]
