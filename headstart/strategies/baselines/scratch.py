"""scratch: the source's architecture from random weights, with the strategies' budget."""

import time
from dataclasses import replace

from headstart.data.dataset import Dataset
from headstart.strategies.baseline import Baseline, Like
from headstart.strategies.pretraining import untrained
from headstart.training.context import RunContext
from headstart.training.held_out import held_out_further
from headstart.training.plan import make_plan
from headstart.training.refit import all_labels, refit, refits_alone, refitted, unchosen
from headstart.training.section import Training
from headstart.training.supervised import fit
from headstart.training.trained import Trained


def fit_scratch(like: Like, dataset: Dataset, training: Training, context: RunContext) -> Trained:
    """The architecture of the source, trained from random weights: to choose its epochs, then on all labels."""

    def fitted(data: Dataset, context: RunContext) -> Trained:
        return _fitted(like, data, training, context)

    context = context.asking(dataset.task)
    trained = fitted(dataset, context)
    start = time.perf_counter()
    trained = held_out_further(trained, dataset, context, fitted)
    return replace(trained, seconds=trained.seconds + time.perf_counter() - start)


def _fitted(like: Like, dataset: Dataset, training: Training, context: RunContext) -> Trained:
    bundle = untrained(like, dataset, context)
    bundle.provenance |= {"role": "baseline", "strategy": "scratch", "head": "trained"}
    plan = make_plan(training, dataset.split("train").labels, pretrained=False, network=bundle.network)
    alone = refits_alone(dataset, context)
    trained = unchosen(bundle, plan) if alone else fit(bundle, dataset, plan, context, name="scratch")
    trained = replace(trained, params={"architecture": like.architecture, **trained.params})
    labelled = all_labels(dataset, context)
    if labelled is None:
        return trained
    start = time.perf_counter()
    bundle = untrained(like, labelled, context)
    refit(bundle, labelled, plan, context, trained, name="scratch")
    seconds = trained.seconds + time.perf_counter() - start
    return replace(refitted(bundle, labelled, trained), seconds=seconds)


BASELINE = Baseline(fit_scratch, is_network=True)
