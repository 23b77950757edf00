"""one_epoch: the labels, seen once."""

from dataclasses import replace
from typing import TYPE_CHECKING

from headstart.training.objective import PretrainingObjective

if TYPE_CHECKING:
    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.training.context import RunContext
    from headstart.training.plan import Plan
    from headstart.training.trained import Trained


def learn(bundle: "ModelBundle", dataset: "Dataset", plan: "Plan", context: "RunContext") -> "Trained":
    from headstart.training.supervised import fit

    return fit(bundle, dataset, plan, context, name="pretraining")


OBJECTIVE = PretrainingObjective(
    learn,
    learns_labels=True,
    plan=lambda plan: replace(plan, epochs=1),
    no_meaning=("epochs",),
    reason="which has one",
)
