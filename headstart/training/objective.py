"""The registry of the objectives that a source can be pretrained with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.registry import Registry

if TYPE_CHECKING:
    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.training.context import RunContext
    from headstart.training.plan import Plan
    from headstart.training.trained import Trained


@dataclass(frozen=True)
class PretrainingObjective:
    """What a source is trained to do.

    `fit` trains `bundle.network` in place. `plan` changes the settings that follow from the recipe. Recipes are read
    without torch, so a member's module imports what it works with where it is used.
    """

    fit: "Callable[[ModelBundle, Dataset, Plan, RunContext], Trained]"
    learns_labels: bool
    plan: "Callable[[Plan], Plan]" = lambda plan: plan
    no_meaning: tuple[str, ...] = ()
    """the settings of the recipe's section that have no meaning with it"""
    reason: str = ""
    """why not: `which reads no labels`"""


OBJECTIVES = Registry("objectives", "headstart.training.objectives", "OBJECTIVE", PretrainingObjective)
