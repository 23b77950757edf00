"""Strategies: the ways to carry a source model to a target, from nothing trained to everything trained.

Each is one short function over the stages of a network. Read it and you know what it does.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.features.extraction import vectors, vectors_of
from headstart.features.heads import LinearHead, best_head, nearest_class_mean
from headstart.features.stage_feed import StageFeed
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import score
from headstart.models.bundle import ModelBundle, versions
from headstart.models.network import Network
from headstart.storage.state import State
from headstart.strategies.interpolation import interpolate
from headstart.strategies.lora import add_lora, merge_lora
from headstart.strategies.regularizers import REGULARIZERS
from headstart.strategies.section import Strategy
from headstart.training.distributed import current_group
from headstart.training.engine import OnEpoch, training_device
from headstart.training.feed import Feed
from headstart.training.plan import Plan, make_plan
from headstart.training.progress import Progress
from headstart.training.section import Training
from headstart.training.supervised import Fit, fit

PARTS = ("first", "middle", "last")
# Training samples from which batch norms learn the target's statistics, see `_schedule`.
_ENOUGH = 250
# Samples whose gradients are asked for: an epoch of a large data set is too much for one choice of three.
_ASKED = 256


@dataclass(frozen=True)
class Transferred:
    """A model for the target, how it was trained, and how well it does on the validation split.

    `fit` and `plan` are None where nothing was trained; `seconds` counts everything from the source's weights on.
    `decisions` is what was chosen on the way: `head`, the kind of head at the start; `schedule`, what `auto` came to;
    `part`, that of the stages which surgical fine-tuning trained; `alpha`, the share of the fine-tuned weights.
    """

    bundle: ModelBundle
    validation: float
    seconds: float
    fit: Fit | None
    plan: Plan | None
    decisions: dict[str, str | float] = field(default_factory=dict)

    def to_params(self) -> dict[str, Any]:
        """What the record should know beside the strategy itself, as flat parameters: the resolved settings, how they
        were computed, the decisions and the temperature."""
        return {
            **(self.plan.to_params() if self.plan else {}),
            **(self.fit.settings if self.fit else {}),
            **self.decisions,
            "temperature": self.bundle.temperature,
        }


@dataclass(frozen=True)
class _Task:
    """What every kind of transfer is given."""

    source: ModelBundle
    dataset: Dataset
    strategy: Strategy
    training: Training
    metric: str
    seed: int
    reference: str | None
    digest: str | None
    state: State | None
    on_epoch: OnEpoch | None
    progress: Progress | None


def transfer(
    source: ModelBundle,
    dataset: Dataset,
    strategy: Strategy,
    *,
    training: Training,
    metric: str = "accuracy",
    seed: int = 0,
    reference: str | None = None,
    digest: str | None = None,
    state: State | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> Transferred:
    """Carries `source` to the classes of `dataset` by `strategy`; `source` itself is not changed.

    `reference` and `digest` say which model the source is; they go into the new model's provenance. `state` is where
    features and checkpoints are kept, by default where the environment says. Only the training split trains, and only
    the validation split chooses (the head's kind and penalty, epochs, α).

    Raises:
        InputError: the modalities differ, or the source's architecture does not have what the strategy needs: stages
            enough to freeze or to part, linear layers for `lora`.
    """
    if source.modality != dataset.modality:
        raise InputError(
            f"The source reads {source.modality} and the target is {dataset.modality}; choose another source."
        )
    overrides = {key: getattr(strategy, key) for key in ("epochs", "learning_rate") if getattr(strategy, key)}
    task = _Task(
        source=source,
        dataset=dataset,
        strategy=strategy,
        training=training.model_copy(update=overrides),
        metric=metric,
        seed=seed,
        reference=reference,
        digest=digest,
        state=state or State.from_environment(),
        on_epoch=on_epoch,
        progress=progress,
    )
    chosen = {"schedule": _schedule(task)} if strategy.schedule == "auto" else {}
    task = replace(task, strategy=strategy.model_copy(update=chosen))
    start = time.perf_counter()
    source.network.to(training_device())
    result = _policy(task.strategy)(task, _start(task))
    result.decisions.update(chosen)
    result.bundle.provenance["decisions"] = result.decisions
    return replace(result, seconds=time.perf_counter() - start)


def _policy(strategy: Strategy) -> Callable[[_Task, ModelBundle], Transferred]:
    if strategy.transfer == "zero":
        return _zero
    if strategy.transfer == "full":
        return _gradual if strategy.schedule == "gradual" else _full
    if strategy.freeze == "all":
        return _linear_probe
    return _surgical if strategy.surgical else _lora if strategy.lora else _partial


def _zero(task: _Task, bundle: ModelBundle) -> Transferred:
    """Nothing is trained. The source's own head where it knows every class of the target, else the nearest class mean
    of its features, which takes one mean a class from the training split (Snell, Swersky and Zemel 2017)."""
    head = "source"
    if not _source_head(task, bundle):
        head = "nearest class mean"
        train = task.dataset.split("train")
        features = vectors(bundle, train, task.state, precision=task.training.precision)
        nearest_class_mean(features, train.labels, len(bundle.classes)).install(bundle.network)
    validation = _validation(task, bundle)[0]
    return Transferred(bundle, validation, seconds=0.0, fit=None, plan=None, decisions={"head": head})


def _linear_probe(task: _Task, bundle: ModelBundle) -> Transferred:
    """All stages stay as the source has them. The head is fitted to their features, not trained: the best of several
    by the validation split (Alain and Bengio, "Understanding intermediate layers using linear classifier probes",
    2016; Kornblith et al., "Do better ImageNet models transfer better?", 2019)."""
    kind, logits = _fitted_head(task, bundle)
    labels = task.dataset.split("val").labels
    bundle.temperature = fit_temperature(logits, labels)
    validation = score(task.metric, labels, logits.argmax(1), len(bundle.classes))
    return Transferred(bundle, validation, seconds=0.0, fit=None, plan=None, decisions={"head": kind})


def _partial(task: _Task, bundle: ModelBundle) -> Transferred:
    """The first k stages stay as the source has them, weights and batch-norm statistics; the rest and the head are
    trained (Yosinski et al. 2014, "How transferable are features in deep neural networks?")."""
    stages = len(bundle.network.stages)
    # Earlier stages hold what domains share, later ones what is special to the source; half is where they part.
    frozen = -(-stages // 2) if task.strategy.freeze is None else int(task.strategy.freeze)
    if frozen > stages:
        raise InputError(
            f"strategies.{task.strategy.name}.freeze is {frozen}, but {bundle.architecture} has {stages} stages; "
            f"freeze at most {stages}."
        )
    return _train(task, bundle, {"head": _first_head(task, bundle)}, lambda network: network.freeze(frozen))


def _surgical(task: _Task, bundle: ModelBundle) -> Transferred:
    """One third of the stages is trained, and the head: the first where the inputs differ, the last where what is asked
    of them does (Lee et al., "Surgical fine-tuning improves adaptation to distribution shifts", ICLR 2023).

    `auto` takes the third with the largest mean of its stages' signals (`_signals`), those of the source's own head
    where it knows every class of the target and of the head at the start elsewhere. From MNIST-5k to 90 other digits of
    it (convnet, three seeds): with the source's classes, noise, negatives, blur and low contrast all led to the first
    third (12 of 12) and permuted names to the last (3 of 3); with names of their own, pairs of digits made one class
    led to the last (6 of 6), but shifted pictures to the first in 6 of 12 only, since a fitted head hides most of it.
    """
    stages = len(bundle.network.stages)
    if stages < len(PARTS):
        raise InputError(
            f"strategies.{task.strategy.name}.surgical parts the stages into three, but {bundle.architecture} has "
            f"{stages}; use transfer: full."
        )
    head = _first_head(task, bundle)
    thirds = [range(part[0], part[-1] + 1) for part in np.array_split(np.arange(stages), len(PARTS))]
    part = task.strategy.surgical
    if part == "auto":
        # A fitted head already answers for the target's labels, and so hides that it is they which differ.
        asked = _start(task)
        signals = _signals(asked if _source_head(task, asked) else bundle, task.dataset)
        means = [float(np.mean([signals[position] for position in third])) for third in thirds]
        part = current_group().share(PARTS[int(np.argmax(means))])
    trained = thirds[PARTS.index(str(part))]
    return _train(task, bundle, {"head": head, "part": str(part)}, lambda network: network.train_only(trained))


def _lora(task: _Task, bundle: ModelBundle) -> Transferred:
    """The stages' weights stay, and a product of two matrices of rank r is trained beside each (`lora.add_lora`, Hu et
    al. 2022). In the end it is added to the weight, so that the result has the source's architecture."""

    def adapt(network: Network) -> None:
        add_lora(network, int(task.strategy.lora or 0), architecture=bundle.architecture, seed=task.seed)

    return _train(task, bundle, {"head": _first_head(task, bundle)}, adapt)


def _full(task: _Task, bundle: ModelBundle) -> Transferred:
    """Every source weight is a start and is trained on, all at once.

    `lp_ft`: a linear probe comes first and becomes the head, so that a random head does not distort the features
    (Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR 2022).
    `constant`: from the source's head where it knows every class of the target, and from a new one elsewhere.
    `auto`: the one or the other by the number of samples, see `_schedule`.
    """
    return _train(task, bundle, {"head": _first_head(task, bundle)})


def _gradual(task: _Task, bundle: ModelBundle) -> Transferred:
    """After a linear probe, the head trains alone, then the last stage too, then the one before it, and so on, one more
    every `Plan.unfreeze_every` epochs: what is general changes last (Howard and Ruder, "Universal language model
    fine-tuning for text classification", ACL 2018, section 3.3)."""
    return _train(task, bundle, {"head": _first_head(task, bundle)})


def _start(task: _Task) -> ModelBundle:
    """A copy of the source that names the target's classes and says what it is; its head is still the source's, and
    its temperature is that of a head that has none yet."""
    network = copy.deepcopy(task.source.network)
    network.unfreeze()
    provenance: dict[str, Any] = {
        "role": "target",
        "strategy": task.strategy.name,
        **task.dataset.digests,
        "source": task.reference,
        "source_digest": task.digest,
        "seed": task.seed,
        "head": "trained",
        "versions": versions(),
    }
    return replace(task.source, network=network, classes=task.dataset.classes, temperature=1.0, provenance=provenance)


def _schedule(task: _Task) -> str:
    """What `auto` comes to: `constant` from 250 training samples on where the source has batch norms, else `lp_ft`.

    With enough samples a network does better with the target's statistics than with the source's. With fewer neither
    start is surely better, and a probe's distorts the source's features less. Test accuracy of `constant` less that of
    `lp_ft`, the mean over pairs of the same samples and seed with its 95% interval. The targets are digits from
    MNIST-5k, its 5-9 from its 0-4, and the last five classes of Fashion-MNIST from the first, all with a new head:

        samples            full           partial        pairs
        25 or 50           .011 ± .021    .002 ± .010    15
        100 or 200         .003 ± .005   -.001 ± .004    15
        250                .011 ± .008    .003 ± .007    10
        500                .002 ± .005    .004 ± .005    5
        1090 to 2000       .006 ± .003    .006 ± .002    15, 14

    That is convnet at 32 pixels with the plan's own settings. ResNet-18 on the 5-9 at 32 pixels has .000 ± .018 in full
    with 250 samples and .012 ± .011 with 500 (10 epochs, 4 pairs each). From the source's own head, where it knows
    every class, convnet has .001 ± .003 in full and .002 ± .005 in part (500 and 1090 digits, 6 pairs each).
    """
    samples = len(task.dataset.split("train").labels)
    learns = any(isinstance(module, _BatchNorm) for module in task.source.network.stages.modules())
    return "constant" if learns and samples >= _ENOUGH else "lp_ft"


# Heads.


def _first_head(task: _Task, bundle: ModelBundle) -> str:
    """Puts the head in place that training starts from, and says which kind it is."""
    if task.strategy.schedule != "constant":
        return _fitted_head(task, bundle)[0]
    if _source_head(task, bundle):
        return "source"
    bundle.network.replace_head(len(bundle.classes), torch.Generator().manual_seed(task.seed))
    return "new"


def _fitted_head(task: _Task, bundle: ModelBundle) -> tuple[str, np.ndarray]:
    """Puts the best head for the features in place; returns its kind and its logits of the validation samples."""
    train, val = task.dataset.split("train"), task.dataset.split("val")
    features, val_features = vectors_of(bundle, (train, val), task.state, precision=task.training.precision)
    head, kind, _ = best_head(
        features, train.labels, val_features, val.labels, classes=len(bundle.classes), metric=task.metric
    )
    head.install(bundle.network)
    return kind, head.logits(val_features)


def _source_head(task: _Task, bundle: ModelBundle) -> bool:
    """Keeps the source's head for the target's classes, its rows picked and ordered by name, and the temperature that
    was fitted to it; False if it cannot."""
    known = {name: index for index, name in enumerate(task.source.classes)}
    if task.source.provenance.get("head") != "trained" or any(name not in known for name in bundle.classes):
        return False
    head = bundle.network.head
    rows = [known[name] for name in bundle.classes]
    weight, bias = (tensor.detach().cpu().numpy()[rows] for tensor in (head.weight, head.bias))
    LinearHead(weight, bias).install(bundle.network)
    bundle.temperature = task.source.temperature
    return True


# Training.


def _train(
    task: _Task,
    bundle: ModelBundle,
    decisions: dict[str, str | float],
    choose: Callable[[Network], None] = Network.unfreeze,
) -> Transferred:
    """Trains what `choose` leaves to train, from the weights as they are."""
    strategy, network = task.strategy, bundle.network
    before = None
    if strategy.interpolate is not None:
        before = {key: value.detach().clone() for key, value in network.state_dict().items()}
    choose(network)
    # A fitted head knows the features as the source's statistics make them. Those of a batch would move them all at
    # once, and the first steps would undo what they should start from (Kumar et al. fine-tune in eval mode too). On
    # digits from MNIST, .986 instead of .977 in full and .981 instead of .976 in part (convnet, 512 samples, 3 seeds).
    network.keep_statistics(strategy.schedule != "constant")
    penalty, training, name = None, task.training, strategy.name
    if strategy.regularizer and strategy.strength is not None:
        # R(w) takes the place of the optimiser's own pull towards 0; both at once would be two objectives.
        training = training.model_copy(update={"weight_decay": 0.0})
        penalty = REGULARIZERS[strategy.regularizer](network, strategy.strength)
        # A checkpoint is found by the training's name, which so says what else is minimised.
        name = f"{name} ({strategy.regularizer} {strategy.strength:g})"
    plan = make_plan(
        training,
        task.dataset.split("train").labels,
        pretrained=True,
        fan_in=max(p[0].numel() for p in network.parameters() if p.ndim > 1),
        layers=sum(p.ndim > 1 for p in network.parameters() if p.requires_grad),
        from_probe=network.keeps_statistics,
        layer_decay=strategy.layer_decay,
        gradual_stages=len(network.stages) if strategy.schedule == "gradual" else 0,
    )
    fitted = fit(
        bundle,
        task.dataset,
        plan,
        metric=task.metric,
        seed=task.seed,
        penalty=penalty,
        feed=_stage_feed(task, bundle, plan),
        name=name,
        state=task.state,
        on_epoch=task.on_epoch,
        progress=task.progress,
    )
    validation = fitted.validation
    if strategy.lora:
        merge_lora(network)
    kept: int | None = fitted.best_epoch
    if before is not None and strategy.interpolate is not None:
        alpha = interpolate(bundle, before, task.dataset, strategy.interpolate, metric=task.metric)
        decisions["alpha"] = alpha
        kept = {0.0: 0, 1.0: kept}.get(alpha)
        validation, logits = _validation(task, bundle)
        bundle.temperature = fit_temperature(logits, task.dataset.split("val").labels)
    network.keep_statistics(False)
    network.unfreeze()
    bundle.provenance |= {"history": fitted.history, "kept_epoch": kept}
    return Transferred(bundle, validation, seconds=0.0, fit=fitted, plan=plan, decisions=decisions)


def _stage_feed(task: _Task, bundle: ModelBundle, plan: Plan) -> Feed | None:
    """What the frozen stages make of the samples, where keeping that is worth it; None for the samples themselves."""
    frozen = bundle.network.frozen_stages
    if frozen == 0:
        return None
    feed = StageFeed(bundle, task.dataset, plan, frozen, task.seed, task.state)
    return None if feed.reason_against() else feed


def _validation(task: _Task, bundle: ModelBundle) -> tuple[float, np.ndarray]:
    """The metric on the validation split, and the logits there."""
    val = task.dataset.split("val")
    logits = bundle.predict_logits(val.samples)
    return score(task.metric, val.labels, logits.argmax(1), len(bundle.classes)), logits


def _signals(bundle: ModelBundle, dataset: Dataset) -> list[float]:
    """How much the training samples agree on where each stage's weights should go: for each stage the mean over the
    weights w that move of |mean of g| / (standard deviation of g), with g = ∂L(y_i, f(x_i; w)) / ∂w over the samples i.

    The signal-to-noise ratio of gradients, as in Auto-SNR (Lee et al. 2023, section 4), at most 256 samples without
    augmentation, batch norms as they are at prediction. It does not change with the scale of a weight or of the loss.
    Auto-RGN there, the mean of ‖∇L‖ / ‖w‖, is a good learning rate but no choice between stages: on convnet it is
    largest in the first one whatever differs, as its few weights act at every pixel.
    """
    network, train = bundle.network.eval(), dataset.split("train")
    device = training_device()
    chosen = np.linspace(0, len(train.labels) - 1, min(len(train.labels), _ASKED)).astype(int)
    weights = list(network.stages.parameters())
    sums, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for position in chosen:
        sample = torch.from_numpy(np.array(train.samples[position : position + 1])).to(device)
        label = torch.from_numpy(train.labels[position : position + 1]).to(device)
        loss = F.cross_entropy(network(bundle.preprocessing(sample)), label)
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        torch._foreach_add_(sums, gradients)
        torch._foreach_addcmul_(squares, gradients, gradients)
    ratios = []
    for total, square in zip(sums, squares, strict=True):
        mean = total / len(chosen)
        variance = square / len(chosen) - mean.square()
        # Weights that no sample moves, such as the rim of a kernel on a map of one pixel, have no say; and less spread
        # than this is rounding.
        asked = variance > 1e-6 * mean.square()
        ratios.append(mean[asked].abs() / variance[asked].sqrt())
    of_stage = iter(ratios)
    signals = (
        torch.cat([torch.empty(0, device=device), *(next(of_stage) for _ in stage.parameters())])
        for stage in network.stages
    )
    # A stage without weights, such as a pooling, has nothing to train.
    return [float(signal.mean()) if len(signal) else 0.0 for signal in signals]
