"""The training loop of every objective: steps, epochs, the best weights, checkpoints and processes.

The result is a function of the start, the plan, the data and the seed: a training that is stopped anywhere and resumed
from its checkpoint ends with the same bits, and one that several processes share with the same weights to rounding.
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
from headstart.metrics.metric import METRICS
from headstart.metrics.task import SINGLE_LABEL
from headstart.models.network import Network
from headstart.signals import Interruption
from headstart.storage.state import State
from headstart.training.batches import batch_count, epoch_batches, shares, smallest_share
from headstart.training.checkpoints import Checkpoint, Checkpoints, load_optimizer, optimizer_tensors
from headstart.training.context import OnEpoch, RunContext
from headstart.training.distributed import LossFunction, accumulating, current_group, summing_gradients
from headstart.training.draws import seed_of
from headstart.training.memory import kept_memory
from headstart.training.optimizer import make_optimizer
from headstart.training.plan import Plan
from headstart.training.progress import Progress
from headstart.training.schedule import warmup_cosine
from headstart.training.speed import Speed

_Result = TypeVar("_Result")

DEVICE_VARIABLE = "HEADSTART_DEVICE"
# Seconds between two checkpoints; a step that loses its machine repeats at most this much.
CHECKPOINT_VARIABLE = "HEADSTART_CHECKPOINT_SECONDS"
_CHECKPOINT_SECONDS = 60.0
# Validation samples from which on they tell one epoch from another: docs/studies/label-budget.md.
ENOUGH_TO_CHOOSE = 100

log = logging.getLogger(__name__)


class Objective(Protocol):
    """A loss over the samples of a training split, and the validation of the weights.

    `network` holds the stages; `module` is everything that is trained and kept, the network or more. `samples` is the
    size of the training split, `judged` that of the validation split, and `validate` is not called where it is 0.
    `metric` names the number that `validate` gives; it is None where there is only the loss, and that does not tell
    which weights are good. `blocks` is the number of each training sample's block, int (N,), where they are read so.
    """

    network: Network
    samples: int
    judged: int
    blocks: np.ndarray | None

    @property
    def module(self) -> nn.Module: ...

    @property
    def metric(self) -> str | None: ...

    def choose_speed(self, steps: int, state: State | None) -> Speed:
        """The fastest way to compute steps on this machine, for a training of `steps` micro-batches."""

    def prepare(self, speed: Speed) -> None:
        """Prepares the network for computing steps in this way."""

    def ready(self, pause: Callable[[], None]) -> None:
        """Prepares the data that steps read, after the start was judged; calls `pause` now and then."""

    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """The share of the micro-batch `piece` in the objective over `batch`, to be differentiated, and in the sum of
        the samples' losses; float32 scalars. `piece` and `batch` are positions in the split, int (n,) and (N,)."""

    def validate(self, pause: Callable[[], None]) -> tuple[float, float]:
        """The metric and the loss on the validation split; calls `pause` between batches. Without a
        metric the first number is ignored."""


@dataclass
class Course:
    """The progress of a training. `kept` is the rank of the kept weights, those of `kept_epoch` (0 is the start);
    `peak` is the rank of the best epoch, from which patience counts. A rank is the metric, or where none chooses the
    epoch, and the negated loss."""

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
    """A signal asked the training to end between two steps."""


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
    section 3.4.3). The start is kept where it is better by more, so that training cannot make a good one worse; with
    `plan.judges_start` the caller compares it with the best epoch.
    Training ends early after `plan.patience` epochs without a better epoch. An objective without a metric or with fewer
    than 100 validation samples is trained to the end, and its last weights are the best: so few do not tell one epoch
    from another (docs/studies/label-budget.md).

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
    optimizer = make_optimizer(objective.module, objective.network.stages, plan)
    checkpoints = None
    if state:
        every = float(os.environ.get(CHECKPOINT_VARIABLE, _CHECKPOINT_SECONDS))
        checkpoints = Checkpoints(state, {"plan": plan.to_params(), "seed": seed, "name": name, **job}, every=every)
    run = _Run(objective, plan, optimizer, checkpoints, seed, name)
    with Interruption() if checkpoints else nullcontext() as interruption, kept_memory():
        run.interruption = interruption
        run.resume(steps_per_epoch * plan.last * plan.accumulate, state, on_epoch)
        if not run.course.finished:
            run.begin(on_epoch)
            run.pausing(objective.ready)
            run.all_epochs(on_epoch, progress)
            run.tick()
        elif progress:
            progress(name, plan.last, plan.last, "done before")
    objective.module.load_state_dict(run.kept_state)
    return run.course, run.speed


class _Run:
    """The state of a running training, which a checkpoint holds, and the steps that change it."""

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
        self.metric = objective.metric if objective.judged else None
        self.chooses = self.metric is not None and objective.judged >= ENOUGH_TO_CHOOSE
        self.course = Course()
        self.interruption: Interruption | None = None
        self.steps_per_epoch = batch_count(objective.samples, plan.batch_size)
        self.schedule = warmup_cosine(plan.epochs * self.steps_per_epoch, plan.warmup)
        self.device = next(objective.module.parameters()).device
        self._generator = _generator_of(self.device)
        self.loss = torch.zeros((), device=self.device)
        self.kept_state = copied(objective.module)
        self.average = copied(objective.module) if plan.ema is not None else None
        self._clock = time.perf_counter()

    # Before the first step of this process.

    def resume(self, steps: int, state: State | None, on_epoch: OnEpoch | None) -> None:
        """Loads the checkpoint, if there is one, and chooses how to compute steps."""
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
        """Validates the start: the curve begins there, and it may stay the best."""
        if self.course.start is not None:
            return
        self._thaw()
        metric, loss = self._validate()
        self.course.start = (metric, -loss)
        self.course.kept = (metric, -loss) if self.chooses else (0.0, -loss)
        if on_epoch and self.objective.judged:
            on_epoch(0, self._measured(metric, loss))

    # The epochs.

    def all_epochs(self, on_epoch: OnEpoch | None, progress: Progress | None) -> None:
        course, plan = self.course, self.plan
        loss_of: LossFunction | None = None
        while not course.finished:
            self._thaw()
            if loss_of is None or plan.unfreeze_every:
                loss_of = summing_gradients(self.objective.module, self.objective.loss, self.group)
            self._steps(loss_of)
            metric, loss = self._validate()
            self._judge(metric, loss)
            entry = course.history[-1]
            if on_epoch:
                on_epoch(course.epoch, _without_epoch(entry))
            course.finished = course.epoch == plan.last or course.epoch - course.peak_epoch >= plan.patience
            if course.finished and self._is_as_good(metric):
                self._keep((metric, -loss))
            if progress:
                done = plan.last if course.finished else course.epoch
                name, reached = self.objective.metric, self._merit(metric)
                judged = f"{name} {reached:.3f}" if name else f"loss {loss:.3f}"
                validated = f", validation {judged}" if self.objective.judged else ""
                progress(self.name, done, plan.last, f"loss {entry['train/loss']:.3f}{validated}")
            course.epoch, course.step = course.epoch + 1, 0
            self.loss.zero_()
        self.save()

    def _steps(self, loss_of: LossFunction) -> None:
        """Takes the remaining steps of the epoch."""
        course = self.course
        self.objective.module.train()
        batches = self._batches()
        clock = time.perf_counter()
        while course.step < len(batches):
            stop = self._step(batches[course.step], loss_of)
            course.step += 1
            if self.checkpoints and (stop or (self.group.rank == 0 and self.checkpoints.due)):
                course.training_seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                self.save()
                self._end_if(stop)
        course.training_seconds += time.perf_counter() - clock

    def _batches(self) -> list[np.ndarray]:
        """The batches of the epoch; InputError where a process would have no sample of a micro-batch."""
        samples, blocks, plan = self.objective.samples, self.objective.blocks, self.plan
        batches = epoch_batches(samples, plan.batch_size, seed=self.seed, epoch=self.course.epoch, blocks=blocks)
        size = self.group.size
        if blocks is not None and size > 1 and not smallest_share(batches, plan.accumulate, size, blocks):
            raise InputError(
                f"{self.name}: {size} processes cannot share a micro-batch of {len(batches[-1]) // plan.accumulate} "
                "samples of a store that is streamed, since each reads its own blocks; raise batch_size or use fewer."
            )
        return batches

    def _step(self, batch: np.ndarray, loss_of: LossFunction) -> bool:
        """Takes one step of the optimiser; True if a signal asked one of the processes to end."""
        course, plan, group = self.course, self.plan, self.group
        # Dropout is then a function of the step, and no generator's state has to be kept.
        self._generator.manual_seed(seed_of(self.seed, course.epoch, course.step, group.rank))
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        micro_batches = shares(batch, plan.accumulate, group.rank, group.size, self.objective.blocks)
        for number, micro_batch in enumerate(micro_batches, start=1):
            with accumulating(loss_of, last=number == len(micro_batches)):
                objective, loss = loss_of(micro_batch, batch, course.epoch)
                objective.backward()
            losses.append(loss.detach())
        # Most steps have one, to which nothing is added.
        loss = reduce(torch.add, losses)
        stop = bool(self.interruption and self.interruption.requested)
        if group.size > 1:
            totals = torch.stack([loss, torch.full_like(loss, float(stop))])
            group.sum_(totals)
            loss, stop = totals[0], bool(totals[1] > 0)
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
        rank = (metric, -loss) if self.chooses else (float(course.epoch), -loss)
        if rank > course.peak:
            course.peak, course.peak_epoch = rank, course.epoch
        # A start that is a model is judged beside what training made of it, whichever is better.
        takes_over = course.kept_epoch == 0 and (rank == course.kept or self.plan.judges_start)
        if rank > course.kept or takes_over:
            self._keep(rank)

    def _keep(self, rank: tuple[float, float]) -> None:
        self.course.kept, self.course.kept_epoch = rank, self.course.epoch
        with self._averaged():
            _load(self.kept_state, self.objective.module.state_dict())

    def _is_as_good(self, metric: float) -> bool:
        """Whether the metric is below that of the kept weights by at most the standard error of a difference between
        two shares of the validation samples. (Worth .001 to .007 of accuracy on digits from MNIST-5k with 64 validation
        samples: convnet, 8 settings of full and partial transfer, 3 seeds each.)"""
        if not self.chooses or self.metric is None or self.course.kept_epoch == self.course.epoch:
            return False
        if SINGLE_LABEL not in METRICS[self.metric].tasks:
            # The noise of an error depends on how errors are distributed.
            return False
        count, kept = self.objective.judged, self.course.kept[0]
        # One right and one wrong more (Agresti and Caffo 2000): all right is no certainty.
        share = ((kept + metric) / 2 * count + 1) / (count + 2)
        return kept - metric <= float(np.sqrt(2 * share * (1 - share) / count))

    def _validate(self) -> tuple[float, float]:
        """The metric and the loss of the weights that would be kept; zeros where no sample judges them."""
        if not self.objective.judged:
            return 0.0, 0.0

        def validate(pause: Callable[[], None]) -> tuple[float, float]:
            with self._averaged():
                return self.objective.validate(pause)

        metric, loss = self.pausing(validate)
        return self._merit(metric), loss

    def _merit(self, metric: float) -> float:
        """The metric with the sign by which more is better, or, its own inverse, the metric of such a number."""
        return METRICS[self.metric].merit(metric) if self.metric else metric

    def _measured(self, metric: float, loss: float) -> dict[str, float]:
        """The result of `_validate` under the names of the record."""
        if not self.objective.judged:
            return {}
        name = self.objective.metric
        return {"val/loss": loss, **({f"val/{name}": self._merit(metric)} if name else {})}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Replaces the weights by their average, where there is one, within the block."""
        if self.average is None:
            yield
            return
        last = copied(self.objective.module)
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
        """Runs `work` and returns its result. `work` calls its argument where it can stop; a signal stops it there."""

        def pause() -> None:
            # With several processes, the others would wait for one that stops alone.
            if self.group.size == 1 and self.interruption and self.interruption.requested:
                raise _Paused

        try:
            return work(pause)
        except _Paused:
            self.save()
            self._end_if(True)
            raise

    def tick(self) -> None:
        """Adds the time since the last call to `seconds`."""
        now = time.perf_counter()
        self.course.seconds += now - self._clock
        self._clock = now

    def save(self) -> None:
        """Writes the checkpoint; after the end, only the kept weights."""
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
    """The process's own GPU, or the CPU where there is none; HEADSTART_DEVICE asks for another: `cpu`, or `mps`, which
    is Apple's GPU, on which a training has one process.

    Raises:
        InputError: HEADSTART_DEVICE is neither, torch sees no Apple GPU, or several processes train.
    """
    asked = os.environ.get(DEVICE_VARIABLE)
    if asked == "mps":
        return _apple_gpu()
    if asked not in (None, "", "cpu"):
        raise InputError(f"{DEVICE_VARIABLE} is {asked}; set it to cpu or mps, or unset it for CUDA's GPU or the CPU.")
    if asked == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", current_group().local_rank)


def move_to_training_device(network: Network) -> None:
    """Move it there; one that computes in double precision, which Apple's GPU lacks, stays where it is on such."""
    device, values = training_device(), (*network.parameters(), *network.buffers())
    if device.type != "mps" or all(each.dtype != torch.float64 for each in values):
        network.to(device)


def _apple_gpu() -> torch.device:
    if not torch.backends.mps.is_available():
        raise InputError(f"{DEVICE_VARIABLE} is mps, and torch sees no Apple GPU here; unset it.")
    if current_group().size > 1:
        raise InputError(
            f"{DEVICE_VARIABLE} is mps, on which one process trains, and there are {current_group().size}; unset it, "
            "or HEADSTART_PROCESSES."
        )
    return torch.device("mps")


def _generator_of(device: torch.device) -> torch.Generator:
    """The device's own generator: `torch.manual_seed` seeds those of all devices, which takes 0.5 ms."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator


def copied(module: nn.Module) -> dict[str, Tensor]:
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
