"""supervised: a source learns the labels of its data, by cross-entropy."""

from typing import TYPE_CHECKING

from headstart.training.objective import PretrainingObjective

if TYPE_CHECKING:
    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.training.context import RunContext
    from headstart.training.plan import Plan
    from headstart.training.trained import Trained


def learn_labels(bundle: "ModelBundle", dataset: "Dataset", plan: "Plan", context: "RunContext") -> "Trained":
    from headstart.training.supervised import fit

    return fit(bundle, dataset, plan, context, name="pretraining")


OBJECTIVE = PretrainingObjective(learn_labels, learns_labels=True)
