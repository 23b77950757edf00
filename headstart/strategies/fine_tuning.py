"""Fine-tuning: what every strategy that trains does, from the head at the start to the weights that are kept."""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from headstart.data.dataset import Dataset
from headstart.features.stage_feed import StageFeed
from headstart.metrics.predictions import Predictions, on_common_samples
from headstart.models.network import Network
from headstart.strategies.interpolation import interpolate
from headstart.strategies.regularizer import REGULARIZERS
from headstart.strategies.schedule import choose_schedule
from headstart.strategies.section import FineTuning, own_training
from headstart.strategies.task import Task
from headstart.training.context import RunContext
from headstart.training.engine import copied
from headstart.training.feed import Feed
from headstart.training.held_out import held_out_further
from headstart.training.penalty import Penalty
from headstart.training.plan import Plan, make_plan
from headstart.training.refit import all_labels, refit, refits_alone, refitted, unchosen
from headstart.training.supervised import fit
from headstart.training.trained import Trained


def fine_tune(strategy: FineTuning, task: Task) -> Trained:
    """Train the weights that `strategy` chooses, from the source's on, with the head that its schedule begins with.

    The held-out samples choose; then the same is done again with all labels and what was chosen. A start that is a
    model stays unless training beats it on all labels that were held out, of this training or of one that holds out
    others: those of a single one are too few to tell (docs/studies/label-budget.md).
    """
    tuned = _tuned(strategy, task)

    def again(dataset: Dataset, context: RunContext) -> Trained:
        return _tuned(strategy, replace(task, dataset=dataset, context=context)).trained

    chosen = held_out_further(tuned.trained, task.dataset, task.context, again)
    # The start is not told of further: it has been compared.
    start, chosen, labelled = chosen.start, replace(chosen, start=None), all_labels(task.dataset, task.context)
    stays = task.start_stays
    if stays is None:
        stays = start is not None and not _beats(chosen, start.predictions)
    if start is not None and stays:
        chosen = _with_start(chosen, start.predictions, task.context.metric)
    elif labelled is None:
        return chosen
    return _made_anew(replace(task, dataset=labelled or task.dataset), tuned, chosen)


@dataclass(frozen=True)
class _Tuned:
    """A training, the plan that it followed, and its strategy, which has no choice left."""

    trained: Trained
    plan: Plan
    strategy: FineTuning


def _tuned(strategy: FineTuning, task: Task) -> _Tuned:
    """The task's model, trained on its training split. Without validation samples a start that is a model stays, as
    nothing can show that training beats it."""
    schedule = choose_schedule(task) if strategy.schedule == "auto" else strategy.schedule
    decisions, before = _start(strategy, task, schedule)
    network = task.bundle.network
    if strategy.schedule == "auto":
        decisions["schedule"] = str(schedule)
    plan = _plan(strategy, task, network, gradual=schedule == "gradual")
    plan = replace(plan, judges_start=decisions["head"] != "new")
    judged: tuple[float, Predictions | None] = (math.nan, None)
    fitted = None
    if strategy.interpolate is None and refits_alone(task.dataset, task.context):
        fitted = unchosen(task.bundle, plan)
    elif task.dataset.counts["val"] or not plan.judges_start:
        name, penalty, feed = _training(strategy, task, plan)
        fitted = fit(task.bundle, task.dataset, plan, task.context, penalty=penalty, feed=feed, name=name)
        judged = fitted.validation, fitted.held_out
    strategy.finish(network)
    if fitted and strategy.interpolate is not None:
        alpha = interpolate(task.bundle, before, task.dataset, strategy.interpolate, metric=task.context.metric)
        decisions["alpha"] = alpha
        task.bundle.provenance["kept_epoch"] = {0.0: 0, 1.0: fitted.best_epoch}.get(alpha)
        val = task.dataset.split("val")
        judged = task.judge(val, task.bundle.predict_logits(val.samples))
    _release(network)
    settled = strategy.settled({**decisions, "schedule": schedule})
    return _Tuned(task.result(judged, decisions, fitted), plan, settled)


def _beats(chosen: Trained, start: Predictions) -> bool:
    """Whether a training beats its start on the samples that both have predictions for."""
    assert chosen.held_out is not None  # noqa: S101 (a start is judged beside it)
    ours, simpler = on_common_samples([chosen.held_out, start])
    return ours.kind.beats(ours.outputs, simpler.outputs, ours.labels, ours.groups)


def _with_start(chosen: Trained, start: Predictions, metric: str) -> Trained:
    """The result of a training whose start stays: all but the model."""
    decisions = {"alpha": 0.0} if "alpha" in chosen.params else {}
    provenance = chosen.bundle.provenance
    provenance |= {"kept_epoch": 0, "decisions": {**provenance["decisions"], **decisions}}
    params = {**chosen.params, **decisions}
    return replace(chosen, best_epoch=0, params=params, held_out=start, validation=start.score(metric))


def _made_anew(task: Task, tuned: _Tuned, chosen: Trained) -> Trained:
    """What was `chosen`, the start or what training makes of it, with all samples that `task` may learn from."""
    strategy = tuned.strategy
    decisions, before = _start(strategy, task, strategy.schedule)
    if chosen.best_epoch:
        name, penalty, feed = _training(strategy, task, tuned.plan)
        refit(task.bundle, task.dataset, tuned.plan, task.context, tuned.trained, penalty=penalty, feed=feed, name=name)
    strategy.finish(task.bundle.network)
    if strategy.interpolate is not None and chosen.best_epoch:
        interpolate(task.bundle, before, task.dataset, strategy.interpolate, metric=task.context.metric)
    _release(task.bundle.network)
    if decisions["head"] == "source" and chosen.keeps_start:
        task.calibrate_source_head()
    return refitted(task.bundle, task.dataset, chosen)


def _start(strategy: FineTuning, task: Task, schedule: str | None) -> tuple[dict[str, str | float], dict[str, Tensor]]:
    """Make the task's model ready to train; return what was decided and, for an interpolation, the weights."""
    network = task.bundle.network
    strategy.check_stages(len(network.stages), task.bundle.architecture)
    decisions: dict[str, str | float] = {"head": task.install_head(schedule)}
    before = copied(network) if strategy.interpolate is not None else {}
    decisions |= strategy.choose_part(task)
    # A fitted head knows the features as the source's statistics make them. Those of a batch would move them all at
    # once, and the first steps would undo what they should start from (Kumar et al. fine-tune in eval mode too):
    # docs/studies/schedule.md.
    network.keep_statistics(schedule != "constant")
    return decisions, before


def _training(strategy: FineTuning, task: Task, plan: Plan) -> tuple[str, Penalty | None, Feed | None]:
    """The name of the training, the penalty R(w), and the inputs of the stages that train."""
    feed = _stage_feed(task, plan)
    if not strategy.regularizer or strategy.strength is None:
        return strategy.name, None, feed
    penalty = REGULARIZERS[strategy.regularizer].penalty(task.bundle.network, strategy.strength)
    # A checkpoint is found by the training's name, which so says what else is minimised.
    return f"{strategy.name} ({strategy.regularizer} {strategy.strength:g})", penalty, feed


def _release(network: Network) -> None:
    network.keep_statistics(False)
    network.unfreeze()


def _plan(strategy: FineTuning, task: Task, network: Network, *, gradual: bool) -> Plan:
    # R(w) takes the place of the optimiser's own pull towards 0; both at once would be two objectives.
    decay = {"weight_decay": 0.0} if strategy.regularizer else {}
    return make_plan(
        task.training.model_copy(update=own_training(strategy) | decay),
        task.dataset.split("train").labels,
        pretrained=True,
        network=network,
        from_probe=network.keeps_statistics,
        layer_decay=strategy.layer_decay,
        gradual_stages=len(network.stages) if gradual else 0,
    )


def _stage_feed(task: Task, plan: Plan) -> Feed | None:
    """What the frozen stages make of the samples, where keeping that is worth it; None for the samples themselves."""
    frozen = task.bundle.network.frozen_stages
    if frozen == 0:
        return None
    feed = StageFeed(task.bundle, task.dataset, plan, frozen, task.context.seed, task.context.state)
    return None if feed.reason_against() else feed
