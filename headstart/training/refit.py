"""Refitting: after a training has chosen on held-out samples, it is made again on all labels."""

from dataclasses import replace

from headstart.data.dataset import Dataset
from headstart.data.labelled import LabelledDataset
from headstart.metrics.task import REGRESSION, Calibration
from headstart.models.bundle import ModelBundle
from headstart.training.context import RunContext
from headstart.training.feed import Feed
from headstart.training.penalty import Penalty
from headstart.training.plan import Plan
from headstart.training.supervised import fit
from headstart.training.trained import Trained

# Share of the labels that validation holds, from which on learning from them is worth another training.
_WORTH_LEARNING = 0.1
# Logits of less than this share of those before are of another unit, and not those of a model that is less sure.
_OTHER_UNIT = 0.5
_COMPARED = 64


def all_labels(dataset: Dataset, context: RunContext) -> Dataset | None:
    """The data set that a contender is refitted on once it has chosen; None where it stays as it is.

    It stays where validation holds less than a tenth of the labels, and where the run asks for no refit.
    """
    return LabelledDataset(dataset) if context.refit and worth_learning(dataset) else None


def worth_learning(dataset: Dataset) -> bool:
    """Whether validation holds enough of the labels, a tenth, for learning from them to be worth another training."""
    train, val = (dataset.counts[name] for name in ("train", "val"))
    return val > 0 and val >= _WORTH_LEARNING * (train + val)


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

    Its figures, its held-out predictions and the temperature of what was trained are those of the training that chose,
    the temperature in the unit of the model's own logits; a start that was kept has the temperature that it was made
    with.
    """
    labels = {"labels": dataset.counts["train"]}
    if chosen.bundle.provenance["kept_epoch"] != 0:
        bundle.calibration = _in_own_unit(bundle, chosen.bundle, dataset)
    bundle.provenance = {**chosen.bundle.provenance, **labels}
    return replace(chosen, model=bundle, params={**chosen.params, **labels, "temperature": bundle.temperature})


def _in_own_unit(bundle: ModelBundle, before: ModelBundle, dataset: Dataset) -> Calibration:
    """The calibration of the model `before`, which learned from some of the labels, for the one that learned from all.

    The head that a training starts from is fitted up to a factor. Of one sample a class, it has logits of hundreds, and
    what is trained from it a temperature of hundreds. Of two, logits may be of ones: with that temperature, every class
    would be as probable as any other.
    """
    calibration = before.calibration
    if bundle.task == REGRESSION:
        return calibration
    known = dataset.samples("train")[:_COMPARED]
    ours, theirs = (float(each.predict_logits(known).std(axis=1).mean()) for each in (bundle, before))
    if not 0 < ours < _OTHER_UNIT * theirs:
        return calibration
    # 1 is also what stays where held-out samples, as they are all right, tell of no temperature.
    return replace(calibration, scale=max(min(1.0, calibration.scale), calibration.scale * ours / theirs))
