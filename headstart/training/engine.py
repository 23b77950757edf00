"""The engine under every training: steps, epochs, the best weights, checkpoints and processes, whatever is minimised.

What it does is a function of the start, the plan, the data and the seed: a training that is stopped anywhere and goes
on from its checkpoint ends with the same bits, and one that processes share with the same weights to rounding.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from headstart.errors import HeadstartError, InputError
from headstart.models.network import Network
from headstart.storage.state import State
from headstart.training.batches import batch_count, epoch_batches, shares
from headstart.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    Interruption,
    load_optimizer,
    optimizer_tensors,
)
from headstart.training.context import OnEpoch, RunContext
from headstart.training.distributed import current_group
from headstart.training.draws import seed_of
from headstart.training.memory import kept_memory
from headstart.training.plan import Plan
from headstart.training.progress import Progress
from headstart.training.speed import Speed

_Result = TypeVar("_Result")

# How often a training is kept, in seconds; a step that loses its machine repeats at most this much.
CHECKPOINT_VARIABLE = "HEADSTART_CHECKPOINT_SECONDS"
_CHECKPOINT_SECONDS = 60.0

log = logging.getLogger(__name__)


class Objective(Protocol):
    """What is minimised over the samples of a training split, and how the weights are judged.

    `network` holds the stages; `module` is everything that is trained, the network or more, and what is kept.
    `samples` counts those of the training split, `judged` those of the validation split.
    `metric` names what `validate` measures, and is None where nothing but the loss can be and that does not tell which
    weights are good.
    """

    network: Network
    samples: int
    judged: int

    @property
    def module(self) -> nn.Module: ...

    @property
    def metric(self) -> str | None: ...

    def choose_speed(self, steps: int, state: State | None) -> Speed:
        """How steps are computed on this machine, for a training of `steps` micro-batches."""

    def prepare(self, speed: Speed) -> None:
        """Makes ready for computing so."""

    def ready(self, pause: Callable[[], None]) -> None:
        """Makes what the steps read, after the start was judged; calls `pause` now and then where that takes long."""

    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """What the samples `piece` add to the objective over `batch`, of which they are a part, to be differentiated,
        and what they add to the sum of the samples' losses; float32 scalars. Positions are those in the split."""

    def validate(self, pause: Callable[[], None]) -> tuple[float, float]:
        """The metric (more is better) and the loss on the validation split; calls `pause` between batches. Without a
        metric, the first counts for nothing."""


@dataclass
class Course:
    """How far a training is. `kept` is the rank of the weights that are kept, those of `kept_epoch` (0 is the start);
    `peak` that of the best epoch, from which patience counts. A rank is the metric, without one the epoch, and the
    negated loss."""

    epoch: int = 1
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    start: tuple[float, float] | None = None
    kept: tuple[float, float] = (-np.inf, -np.inf)
    kept_epoch: int = 0
    peak: tuple[float, float] = (-np.inf, -np.inf)
    peak_epoch: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0
    finished: bool = False


class _Paused(Exception):  # noqa: N818 - nothing failed
    """A signal asked for the end between two steps."""


def train(
    objective: Objective,
    plan: Plan,
    context: RunContext,
    *,
    name: str,
    job: Mapping[str, Any],
) -> tuple[Course, Speed]:
    """Trains `objective.module` in place and leaves it with its best weights.

    The best epoch is the one with the highest metric on the validation split, the lower validation loss deciding
    between equals; but the last one is kept if it is no more than a standard error worse, as what few samples cannot
    tell apart is better left to training (the rule of Breiman et al., "Classification and regression trees", 1984,
    section 3.4.3). The start is kept where it is better by more, so that training cannot make a good one worse.
    Training ends early after `plan.patience` epochs without a better epoch. An objective without a metric is trained to
    the end, and its last weights are the best.

    Where the context has a state, a checkpoint is kept there every minute (HEADSTART_CHECKPOINT_SECONDS) and when
    SIGTERM or SIGINT asks for the end; a training of the same content (`job`, plan, seed and versions) goes on from it,
    and tells `on_epoch` again what was done before.

    Raises:
        InputError: a batch has fewer samples than there are processes and micro-batches to share it.
        HeadstartError: the loss is no longer a finite number.
    """
    group = current_group()
    pieces = group.size * plan.accumulate
    steps_per_epoch = batch_count(objective.samples, plan.batch_size)
    smallest = objective.samples // steps_per_epoch
    if smallest < pieces:
        raise InputError(
            f"{name}: a batch of {smallest} samples cannot be shared by {group.size} processes with {plan.accumulate} "
            "micro-batches each; raise batch_size or use fewer."
        )
    seed, state, on_epoch, progress = context.seed, context.state, context.on_epoch, context.progress
    torch.manual_seed(seed)
    optimizer = make_optimizer(objective, plan)
    checkpoints = None
    if state:
        every = float(os.environ.get(CHECKPOINT_VARIABLE, _CHECKPOINT_SECONDS))
        checkpoints = Checkpoints(state, {"plan": plan.to_params(), "seed": seed, "name": name, **job}, every=every)
    run = _Run(objective, plan, optimizer, checkpoints, seed, name)
    with Interruption() if checkpoints else nullcontext() as interruption, kept_memory():
        run.interruption = interruption
        run.resume(steps_per_epoch * plan.epochs * plan.accumulate, state, on_epoch)
        if not run.course.finished:
            run.begin(on_epoch)
            run.pausing(objective.ready)
            run.all_epochs(on_epoch, progress)
            run.tick()
        elif progress:
            progress(name, plan.epochs, plan.epochs, "done before")
    objective.module.load_state_dict(run.kept_state)
    return run.course, run.speed


class _Run:
    """One training while it runs: what has to be in a checkpoint, and the steps that change it."""

    def __init__(
        self,
        objective: Objective,
        plan: Plan,
        optimizer: torch.optim.Optimizer,
        checkpoints: Checkpoints | None,
        seed: int,
        name: str,
    ) -> None:
        self.objective, self.plan, self.optimizer = objective, plan, optimizer
        self.checkpoints, self.seed, self.name = checkpoints, seed, name
        self.group = current_group()
        self.course = Course()
        self.interruption: Interruption | None = None
        self.steps_per_epoch = batch_count(objective.samples, plan.batch_size)
        self.schedule = warmup_cosine(plan.epochs * self.steps_per_epoch, plan.warmup)
        self.device = next(objective.module.parameters()).device
        # That of the device alone: `torch.manual_seed` seeds those of all devices, which takes half a millisecond.
        cuda = self.device.type == "cuda"
        self._generator = torch.cuda.default_generators[self.device.index or 0] if cuda else torch.default_generator
        self.loss = torch.zeros((), device=self.device)
        self.kept_state = _copied(objective.module)
        self.average = _copied(objective.module) if plan.ema is not None else None
        self._clock = time.perf_counter()

    # What is done once, before the first step of this process.

    def resume(self, steps: int, state: State | None, on_epoch: OnEpoch | None) -> None:
        """Goes back to the checkpoint, where there is one, and chooses how to compute."""
        found = self.checkpoints.load() if self.checkpoints else None
        if found is None:
            self.speed = self.objective.choose_speed(steps, state)
            self.objective.prepare(self.speed)
            return
        record = dict(found.record)
        self.speed = Speed(**record.pop("speed"))
        self.objective.prepare(self.speed)
        ranks = {key: tuple(record[key]) for key in ("start", "kept", "peak") if record[key] is not None}
        self.course = Course(**{**record, **ranks})
        log.info("%s goes on from its checkpoint: epoch %d, step %d", self.name, self.course.epoch, self.course.step)
        _load(self.kept_state, found.tensors, "kept.")
        if not self.course.finished:
            self._thaw()
            _load(self.objective.module.state_dict(), found.tensors, "module.")
            if self.average is not None:
                _load(self.average, found.tensors, "average.")
            load_optimizer(self.optimizer, found.tensors)
            self.loss.copy_(found.tensors["loss"])
        if on_epoch and self.course.start:
            metric, negated_loss = self.course.start
            on_epoch(0, self._measured(metric, -negated_loss))
            for entry in self.course.history:
                on_epoch(int(entry["epoch"]), _without_epoch(entry))

    def begin(self, on_epoch: OnEpoch | None) -> None:
        """Judges the start: the curve begins there, and it may stay the best."""
        if self.course.start is not None:
            return
        self._thaw()
        metric, loss = self._validate()
        self.course.start = (metric, -loss)
        self.course.kept = (metric, -loss) if self.objective.metric else (0.0, -loss)
        if on_epoch:
            on_epoch(0, self._measured(metric, loss))

    # The epochs.

    def all_epochs(self, on_epoch: OnEpoch | None, progress: Progress | None) -> None:
        course, plan = self.course, self.plan
        while not course.finished:
            self._thaw()
            self._steps()
            metric, loss = self._validate()
            self._judge(metric, loss)
            entry = course.history[-1]
            if on_epoch:
                on_epoch(course.epoch, _without_epoch(entry))
            course.finished = course.epoch == plan.epochs or course.epoch - course.peak_epoch >= plan.patience
            if course.finished and self._is_as_good(metric):
                self._keep((metric, -loss))
            if progress:
                done = plan.epochs if course.finished else course.epoch
                judged = f"{self.objective.metric} {metric:.3f}" if self.objective.metric else f"loss {loss:.3f}"
                progress(self.name, done, plan.epochs, f"loss {entry['train/loss']:.3f}, validation {judged}")
            course.epoch, course.step = course.epoch + 1, 0
            self.loss.zero_()
        self.save()

    def _steps(self) -> None:
        """What is left of the epoch's steps."""
        course = self.course
        self.objective.module.train()
        batches = epoch_batches(self.objective.samples, self.plan.batch_size, seed=self.seed, epoch=course.epoch)
        clock = time.perf_counter()
        while course.step < len(batches):
            stop = self._step(batches[course.step])
            course.step += 1
            if self.checkpoints and (stop or (self.group.rank == 0 and self.checkpoints.due)):
                course.training_seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                self.save()
                self._end_if(stop)
        course.training_seconds += time.perf_counter() - clock

    def _step(self, batch: np.ndarray) -> bool:
        """One step of the optimiser; True if a signal asked one of the processes for the end."""
        course, plan, group = self.course, self.plan, self.group
        # Dropout is then a function of the step, and no generator's state has to be kept.
        self._generator.manual_seed(seed_of(self.seed, course.epoch, course.step, group.rank))
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for mine in shares(batch, plan.accumulate, group.rank, group.size):
            objective, piece_loss = self.objective.loss(mine, batch, course.epoch)
            objective.backward()
            losses.append(piece_loss.detach())
        # Most steps have one, to which nothing is added.
        loss = reduce(torch.add, losses)
        stop = bool(self.interruption and self.interruption.requested)
        if group.size > 1:
            flag = torch.full((), float(stop), device=self.device)
            gradients = [p.grad for p in self.objective.module.parameters() if p.grad is not None]
            group.sum_([*gradients, loss, flag])
            stop = bool(flag > 0)
        self.loss += loss
        step = (course.epoch - 1) * self.steps_per_epoch + course.step
        factor = self.schedule(step)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = parameters["peak"] * factor
        if plan.clip is not None:
            nn.utils.clip_grad_norm_(self.objective.module.parameters(), plan.clip)
        self.optimizer.step()
        if self.average is not None and plan.ema is not None:
            # Early on the average follows faster: it should not remember the start for 1 / (1 - decay) steps.
            _average(self.average, self.objective.module, min(plan.ema, (1 + step) / (10 + step)))
        return stop

    def _judge(self, metric: float, loss: float) -> None:
        course = self.course
        train_loss = float(self.loss) / self.objective.samples
        # The training loss is taken before each step, so only the validation loss shows what the last step did.
        if not np.isfinite(train_loss + loss):
            raise HeadstartError(
                f"{self.name}: the loss became {train_loss + loss} in epoch {course.epoch}; lower learning_rate (it "
                f"was {self.plan.learning_rate:g}) or the regularizer's strength."
            )
        course.history.append({"epoch": course.epoch, "train/loss": train_loss, **self._measured(metric, loss)})
        rank = (metric, -loss) if self.objective.metric else (float(course.epoch), -loss)
        if rank > course.peak:
            course.peak, course.peak_epoch = rank, course.epoch
        if rank > course.kept or (rank == course.kept and course.kept_epoch == 0):
            self._keep(rank)

    def _keep(self, rank: tuple[float, float]) -> None:
        self.course.kept, self.course.kept_epoch = rank, self.course.epoch
        with self._averaged():
            _load(self.kept_state, self.objective.module.state_dict())

    def _is_as_good(self, metric: float) -> bool:
        """Whether the metric is worse than that of the weights that are kept by no more than the standard error of a
        difference between two shares of the validation samples. On digits from MNIST-5k, 64 validation samples and 8
        settings of full and partial transfer, that is worth .001 to .007 of accuracy (convnet, 3 seeds each)."""
        if self.objective.metric is None or self.course.kept_epoch == self.course.epoch:
            return False
        count, kept = self.objective.judged, self.course.kept[0]
        # One right and one wrong more (Agresti and Caffo 2000): all right is no certainty.
        share = ((kept + metric) / 2 * count + 1) / (count + 2)
        return kept - metric <= float(np.sqrt(2 * share * (1 - share) / count))

    def _validate(self) -> tuple[float, float]:
        """The metric and the loss with the weights that would be kept."""

        def validate(pause: Callable[[], None]) -> tuple[float, float]:
            with self._averaged():
                return self.objective.validate(pause)

        return self.pausing(validate)

    def _measured(self, metric: float, loss: float) -> dict[str, float]:
        """What `validate` found, by the names that the record has for it."""
        name = self.objective.metric
        return {"val/loss": loss, **({f"val/{name}": metric} if name else {})}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Puts the average of the weights, where there is one, in the place of the last ones."""
        if self.average is None:
            yield
            return
        last = _copied(self.objective.module)
        _load(self.objective.module.state_dict(), self.average)
        try:
            yield
        finally:
            _load(self.objective.module.state_dict(), last)

    def _thaw(self) -> None:
        if self.plan.unfreeze_every:
            stages = len(self.objective.network.stages)
            self.objective.network.freeze(self.plan.frozen(stages, self.course.epoch))

    # Stopping.

    def pausing(self, work: Callable[[Callable[[], None]], _Result]) -> _Result:
        """What `work` gives; it calls its argument where it may be left, and is left there if a signal asks for the
        end."""

        def pause() -> None:
            # Processes work together; one that left would leave the others waiting.
            if self.group.size == 1 and self.interruption and self.interruption.requested:
                raise _Paused

        try:
            return work(pause)
        except _Paused:
            self.save()
            self._end_if(True)
            raise

    def tick(self) -> None:
        """Adds the time that went by since this was last done."""
        now = time.perf_counter()
        self.course.seconds += now - self._clock
        self._clock = now

    def save(self) -> None:
        """Writes the checkpoint; of a training that is done, only what is kept."""
        if self.checkpoints is None or self.group.rank > 0:
            return
        self.tick()
        tensors = {f"kept.{key}": value for key, value in self.kept_state.items()}
        if not self.course.finished:
            tensors |= {f"module.{key}": value for key, value in self.objective.module.state_dict().items()}
            tensors |= {f"average.{key}": value for key, value in (self.average or {}).items()}
            tensors |= {**optimizer_tensors(self.optimizer), "loss": self.loss}
        record = {**self.course.__dict__, "speed": self.speed.__dict__}
        self.checkpoints.save(Checkpoint(tensors, record))

    def _end_if(self, stop: bool) -> None:
        if stop and self.interruption:
            log.info("%s stops in epoch %d; its checkpoint is kept", self.name, self.course.epoch)
            self.interruption.raise_again()


def training_device() -> torch.device:
    """The GPU where there is one, the CPU elsewhere; the process's own GPU where several train together."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", current_group().local_rank)


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on the peak learning rate: linear from 0 over the first `warmup` share of `steps`, then half a cosine
    down to 0 (Loshchilov and Hutter 2017)."""
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, steps - rise)))

    return factor


def make_optimizer(objective: Objective, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimiser over what trains, in the end; `peak` is each group's own learning rate."""
    stages = len(objective.network.stages)
    # As few groups as can be, since a fused step takes longer in many; stages that join later have their own, because
    # fused SGD gives the momenta of a group all at once.
    groups: dict[tuple[int, float, float], list[nn.Parameter]] = {}
    depth = {
        id(parameter): position
        for position, stage in enumerate(objective.network.stages)
        for parameter in stage.parameters()
    }
    for parameter in objective.module.parameters():
        if parameter.requires_grad or plan.unfreeze_every:
            position = depth.get(id(parameter), stages)
            peak = plan.learning_rate * plan.layer_decay ** (stages - position)
            # Decay pulls weights towards 0; on biases and normalisation scales (one axis) that only shifts activations.
            decay = plan.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((position if plan.unfreeze_every else 0, peak, decay), []).append(parameter)
    options = [
        {"params": parameters, "peak": peak, "weight_decay": decay} for (_, peak, decay), parameters in groups.items()
    ]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(options, lr=plan.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(options, lr=plan.learning_rate, fused=True)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _load(into: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copies values in place, so that no memory is asked for and parameters stay the optimiser's."""
    with torch.no_grad():
        for name, value in into.items():
            value.copy_(tensors[prefix + name])


def _average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)


def _without_epoch(entry: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in entry.items() if key != "epoch"}
