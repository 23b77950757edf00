"""Fine-tuning: what every strategy that trains does, from the head at the start to the weights that are kept."""

from headstart.features.stage_feed import StageFeed
from headstart.models.network import Network
from headstart.strategies.interpolation import interpolate
from headstart.strategies.regularizer import REGULARIZERS
from headstart.strategies.schedule import choose_schedule
from headstart.strategies.section import FineTuning
from headstart.strategies.task import Task
from headstart.training.feed import Feed
from headstart.training.plan import Plan, make_plan
from headstart.training.supervised import fit
from headstart.training.trained import Trained


def fine_tune(strategy: FineTuning, task: Task) -> Trained:
    """Train the weights that `strategy` chooses, from the source's on, with the head that its schedule begins with."""
    schedule = choose_schedule(task) if strategy.schedule == "auto" else strategy.schedule
    bundle, network = task.bundle, task.bundle.network
    strategy.check_stages(len(network.stages), bundle.architecture)
    decisions: dict[str, str | float] = {"head": task.install_head(schedule)}
    start = network.state_dict() if strategy.interpolate is not None else {}
    before = {name: value.detach().clone() for name, value in start.items()}
    decisions |= strategy.choose_part(task)
    # A fitted head knows the features as the source's statistics make them. Those of a batch would move them all at
    # once, and the first steps would undo what they should start from (Kumar et al. fine-tune in eval mode too):
    # docs/studies/schedule.md.
    network.keep_statistics(schedule != "constant")
    plan = _plan(strategy, task, network, gradual=schedule == "gradual")
    penalty, name = None, strategy.name
    if strategy.regularizer and strategy.strength is not None:
        penalty = REGULARIZERS[strategy.regularizer].penalty(network, strategy.strength)
        # A checkpoint is found by the training's name, which so says what else is minimised.
        name = f"{name} ({strategy.regularizer} {strategy.strength:g})"
    feed = _stage_feed(task, plan)
    fitted = fit(bundle, task.dataset, plan, task.context, penalty=penalty, feed=feed, name=name)
    validation = fitted.validation
    strategy.finish(network)
    if strategy.interpolate is not None:
        alpha = interpolate(bundle, before, task.dataset, strategy.interpolate, metric=task.context.metric)
        decisions["alpha"] = alpha
        bundle.provenance["kept_epoch"] = {0.0: 0, 1.0: fitted.best_epoch}.get(alpha)
        logits = task.logits()
        task.calibrate(logits)
        validation = task.score(logits)
    network.keep_statistics(False)
    network.unfreeze()
    if strategy.schedule == "auto":
        decisions["schedule"] = str(schedule)
    return task.result(validation, decisions, fitted)


def _plan(strategy: FineTuning, task: Task, network: Network, *, gradual: bool) -> Plan:
    own = {key: getattr(strategy, key) for key in ("epochs", "learning_rate") if getattr(strategy, key)}
    # R(w) takes the place of the optimiser's own pull towards 0; both at once would be two objectives.
    decay = {"weight_decay": 0.0} if strategy.regularizer else {}
    return make_plan(
        task.training.model_copy(update=own | decay),
        task.dataset.split("train").labels,
        pretrained=True,
        fan_in=max(p[0].numel() for p in network.parameters() if p.ndim > 1),
        layers=sum(p.ndim > 1 for p in network.parameters() if p.requires_grad),
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
