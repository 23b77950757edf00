"""The registry of baselines: what a transfer has to beat, trained on the target alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from headstart.registry import Registry

if TYPE_CHECKING:
    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.training.context import RunContext
    from headstart.training.section import Training
    from headstart.training.trained import Trained


class Like(NamedTuple):
    """What a baseline may take over of the source: its architecture, and the values of the modality's `input` by which
    it reads a sample."""

    architecture: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, source: "ModelBundle") -> "Like":
        return cls(source.architecture, source.preprocessing.given.model_dump(mode="json"))


@dataclass(frozen=True)
class Baseline:
    """A model that knows nothing of the source.

    `fit` trains it with the strategies' budget. `is_network`: processes can share the training, and another seed makes
    another model, so that `evaluation.seeds` of them are trained.
    """

    fit: "Callable[[Like, Dataset, Training, RunContext], Trained]"
    is_network: bool


BASELINES = Registry("baselines", "headstart.strategies.baselines", "BASELINE", Baseline)
