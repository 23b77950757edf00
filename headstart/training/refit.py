"""Refitting: after a training has chosen on held-out samples, it is made again on all labels."""

import math
from dataclasses import replace

from headstart.data.dataset import Dataset
from headstart.data.labelled import LabelledDataset
from headstart.models.bundle import ModelBundle
from headstart.training.context import RunContext
from headstart.training.engine import ENOUGH_TO_CHOOSE
from headstart.training.feed import Feed
from headstart.training.penalty import Penalty
from headstart.training.plan import Plan
from headstart.training.supervised import fit
from headstart.training.trained import Trained

# Share of the labels that validation holds, from which on learning from them is worth another training.
_WORTH_LEARNING = 0.1


def all_labels(dataset: Dataset, context: RunContext) -> Dataset | None:
    """The data set that a contender is refitted on once it has chosen; None where it stays as it is.

    It stays where validation holds less than a tenth of the labels, and where the run asks for no refit.
    """
    return LabelledDataset(dataset) if context.refit and worth_learning(dataset) else None


def worth_learning(dataset: Dataset) -> bool:
    """Whether validation holds enough of the labels, a tenth, for learning from them to be worth another training."""
    train, val = (dataset.counts[name] for name in ("train", "val"))
    return val > 0 and val >= _WORTH_LEARNING * (train + val)


def refits_alone(dataset: Dataset, context: RunContext) -> bool:
    """Whether a contender is trained on all labels alone: a training without those of validation would choose nothing,
    as these are too few to tell one epoch from another, and nobody asks how good it is."""
    few = dataset.counts["val"] < ENOUGH_TO_CHOOSE
    return few and not context.judge and all_labels(dataset, context) is not None


def unchosen(bundle: ModelBundle, plan: Plan) -> Trained:
    """What stands in the place of a choice where a contender `refits_alone`: all epochs of the plan."""
    return Trained(bundle, math.nan, seconds=0.0, params=plan.to_params(), best_epoch=plan.epochs)


def refit(
    bundle: ModelBundle,
    dataset: Dataset,
    plan: Plan,
    context: RunContext,
    chosen: Trained,
    *,
    penalty: Penalty | None = None,
    feed: Feed | None = None,
    name: str = "training",
) -> None:
    """Train `bundle.network` on all labels from its start, by the same schedule up to the epoch that was `chosen`.

    Epoch 0 leaves the start as it is. The arguments are those of `fit`.
    """
    if chosen.best_epoch:
        plan = replace(plan, stop=chosen.best_epoch)
        unseen = replace(context, on_epoch=None)
        named = f"{name}, all labels"
        fit(bundle, dataset, plan, unseen, penalty=penalty, feed=feed, name=named)


def refitted(bundle: ModelBundle, dataset: Dataset, chosen: Trained) -> Trained:
    """The result of a choice whose model is now `bundle`, which learned from all labels.

    Its figures, its held-out predictions and the temperature of what was trained are those of the training that chose;
    a start that was kept has the temperature that it was made with.
    """
    labels = {"labels": dataset.counts["train"]}
    if not chosen.keeps_start:
        bundle.calibration = chosen.bundle.calibration
    bundle.provenance = {**chosen.bundle.provenance, **labels}
    return replace(chosen, model=bundle, params={**chosen.params, **labels, "temperature": bundle.temperature})
