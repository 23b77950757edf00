"""What a training predicts for labels that it did not see, of as many labels as tell contenders apart."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.folded import FoldedDataset, further_folds
from headstart.metrics.task import TASKS
from headstart.training.context import RunContext
from headstart.training.refit import worth_learning
from headstart.training.trained import Judged, Trained, judged_together

# The share of the labels from which on a training is about as well off as in five-fold cross-validation.
_FAIR_SHARE = 0.75


def held_out_further(
    trained: Trained, dataset: Dataset, context: RunContext, again: Callable[[Dataset, RunContext], Trained]
) -> Trained:
    """Return `trained` with predictions for further labels, each by a training without them, calibrated by all of them
    as its model is, and its validation metric over all; so with those of the starts, where each training has one to
    beat.

    The labels of a small budget that are held out are too few to tell one contender from another. So `again` does the
    same training with other parts of the labels held out, each as large, until there are as many as the task asks for
    (Stone 1974, "Cross-validatory choice"). Nothing is done where all labels were held out already, and where
    too few are held out for a model to be refitted on all.
    """
    if trained.held_out is None or not context.cross_validate:
        return trained
    if len(trained.held_out.ids) > dataset.counts["val"]:
        return trained
    trainings = [trained, *(again(fold, context.alone) for fold in judging_folds(dataset))]
    judged = [Judged(each.held_out, each.bundle.calibration) for each in trainings if each.held_out is not None]
    if len(judged) == 1:
        return trained
    found = judged_together(judged)
    starts = [each.start for each in trainings if each.start is not None]
    trained.bundle.calibration = found.calibration
    return replace(
        trained,
        held_out=found.predictions,
        start=judged_together(starts) if starts else None,
        validation=found.predictions.score(context.metric),
    )


def judging_parts(dataset: Dataset, context: RunContext) -> list[FoldedDataset]:
    """The data set and its `judging_folds`, by which what is fitted in an instant is judged where a training that is
    judged learns from less than three quarters of the labels; empty elsewhere.

    Cross-validation with five folds would let it learn from four fifths: with two labels a class, a probe of 16 samples
    was compared with fine-tunings of 10, and won.
    """
    train, val = (dataset.counts[name] for name in ("train", "val"))
    if not (context.refit and context.cross_validate) or train >= _FAIR_SHARE * (train + val):
        return []
    own = FoldedDataset(dataset, np.arange(train + val) >= train)
    return [own, *judging_folds(dataset)]


def judging_rows(dataset: Dataset, context: RunContext) -> list[tuple[np.ndarray, np.ndarray]]:
    """The `judging_parts` as int positions among the labelled samples, training samples first: of those that are
    learned from and of those that are held out."""
    return [(part.rows["train"], part.rows["val"]) for part in judging_parts(dataset, context)]


def judging_folds(dataset: Dataset) -> Iterator[FoldedDataset]:
    """Yield the folds of a data set in which a training is judged beside its own validation split."""
    held_out, task = dataset.counts["val"], TASKS[dataset.task]
    if not worth_learning(dataset):
        return
    for fold in islice(further_folds(dataset), task.further_trainings):
        if held_out >= task.held_out_enough:
            return
        held_out += fold.counts["val"]
        yield fold
