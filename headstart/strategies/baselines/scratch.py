"""scratch: the source's architecture from random weights, with the strategies' budget."""

from dataclasses import replace

from headstart.data.dataset import Dataset
from headstart.strategies.baseline import Baseline, Like
from headstart.strategies.pretraining import untrained
from headstart.training.context import RunContext
from headstart.training.plan import make_plan
from headstart.training.section import Training
from headstart.training.supervised import fit
from headstart.training.trained import Trained, predictions_of


def fit_scratch(like: Like, dataset: Dataset, training: Training, context: RunContext) -> Trained:
    bundle = untrained(like, dataset, context)
    bundle.provenance |= {"role": "baseline", "strategy": "scratch", "head": "trained"}
    plan = make_plan(training, dataset.split("train").labels, pretrained=False)
    trained = fit(bundle, dataset, plan, context, name="scratch")
    held_out = trained.held_out or predictions_of(trained.bundle, dataset.split("val"))
    return replace(trained, params={"architecture": like.architecture, **trained.params}, held_out=held_out)


BASELINE = Baseline(fit_scratch, is_network=True)
