"""A training that is stopped, at whatever moment, ends with the bundle of one that was not."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State
from headstart.training.checkpoints import Checkpoints
from headstart.training.context import RunContext
from headstart.training.engine import CHECKPOINT_VARIABLE
from headstart.training.feed import SampleFeed
from headstart.training.plan import Plan
from headstart.training.supervised import fit
from headstart.training.trained import Trained

SPEED = {"precision": "fp32", "layout": "contiguous", "compile": "off"}
# Three steps an epoch.
BASE = {"epochs": 3, "batch_size": 14, "learning_rate": 0.04, "augmentation": "affine", "patience": 9, **SPEED}


class _Killed(BaseException):
    """What no code catches: the process is gone."""


@dataclass
class _Watch:
    """A penalty of nothing that counts the pieces of batches that this process computes, and may end it at one."""

    at: int | None = None
    do: Callable[[], None] = lambda: None
    seen: int = 0

    def __call__(self, network: torch.nn.Module, *_: Any) -> torch.Tensor:
        self.seen += 1
        if self.seen == self.at:
            self.do()
        return network.head.weight.sum() * 0.0


def _kill() -> None:
    raise _Killed


def _terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


@dataclass(frozen=True)
class _End:
    """What a training came to and what it told."""

    digest: str
    history: list[dict[str, float]]
    best_epoch: int
    told: list[tuple[int, dict[str, float]]]
    weights: dict[str, torch.Tensor] = field(compare=False)
    computed: int = field(compare=False)


@dataclass
class _Job:
    """One training on small real data, started as often as it takes."""

    dataset: Dataset
    make: Callable[[], ModelBundle]
    plan: Plan
    folder: Path
    seed: int = 3
    name: str = "training"
    feed: Callable[[ModelBundle], Any] = lambda bundle: None

    def run(self, state: str | None, watch: _Watch | None = None) -> _End:
        """From a fresh bundle to the end; the state, by default the environment's, is all that it has from before."""
        bundle, watch, told = self.make(), watch or _Watch(), []
        context = RunContext(
            seed=self.seed,
            state=State(str(self.folder / state)) if state else RunContext().state,
            on_epoch=lambda epoch, metrics: told.append((epoch, metrics)),
        )
        feed = self.feed(bundle)
        fitted = fit(bundle, self.dataset, self.plan, context, penalty=watch, feed=feed, name=self.name)
        weights = {name: value.detach().clone() for name, value in bundle.network.state_dict().items()}
        digest = bundle.save(self.folder / "bundle")
        return _End(digest, fitted.history, fitted.best_epoch, told, weights, watch.seen)

    def stopped(self, state: str, at: int, do: Callable[[], None]) -> int:
        """How many pieces a process computed that `do` befell in piece `at`; 0 if it came to its end before."""
        watch = _Watch(at, do)
        try:
            self.run(state, watch)
        except (_Killed, SystemExit):
            return watch.seen
        return 0


@pytest.fixture
def job(threes_and_eights, untrained, plan, tmp_path, monkeypatch) -> Callable[..., _Job]:
    def make(frozen: int = 0, unfreeze_every: int = 0, feed: Any = None, **training: Any) -> _Job:
        if "patience" in training:
            # The few validation samples of these tests would not end any training.
            monkeypatch.setattr("headstart.training.engine.ENOUGH_TO_CHOOSE", 1)
        settings = replace(plan(threes_and_eights, **{**BASE, **training}), unfreeze_every=unfreeze_every)

        def bundle() -> ModelBundle:
            made = untrained(threes_and_eights)
            made.network.dropout.p = 0.3
            made.network.freeze(frozen)
            return made

        return _Job(threes_and_eights, bundle, settings, tmp_path, **({"feed": feed} if feed else {}))

    return make


@pytest.fixture
def every_step(monkeypatch) -> None:
    """A checkpoint after each step."""
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "0")


@pytest.fixture
def every_third_step(monkeypatch) -> None:
    """A checkpoint after each third step that a process makes, so that some are made twice."""
    asked = iter(range(1, 10**6))
    monkeypatch.setattr(Checkpoints, "due", property(lambda _: next(asked) % 3 == 0))


@pytest.fixture
def terminable() -> Iterator[None]:
    """SIGTERM ends a step as it does in a pipeline."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    yield
    signal.signal(signal.SIGTERM, before)


KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "micro-batches": {"accumulate": 2},
    "average of the weights": {"ema": 0.9},
    "frozen stages": {"frozen": 2},
    "unfreezing": {"unfreeze_every": 1, "epochs": 6, "ema": 0.6},
    "unfreezing with sgd": {"unfreeze_every": 1, "epochs": 6, "optimizer": "sgd"},
    "bf16, channels last": {"precision": "bf16", "layout": "channels_last"},
    "early end": {"epochs": 30, "patience": 1, "learning_rate": 0.1},
}


def check_that_it_trained(job: _Job, end: _End) -> None:
    """What can move has moved, or being equal would say nothing."""
    start = job.make().network
    trained = {name for name, parameter in start.named_parameters() if parameter.requires_grad}
    assert end.best_epoch > 0
    assert (len(end.history) < job.plan.last) == (job.plan.patience == 1), "one that should ends early"
    still = {name for name in trained if torch.equal(start.state_dict()[name], end.weights[name])}
    # A stage that joins after the best epoch has not moved in it.
    assert len(still) < len(trained) if job.plan.unfreeze_every else not still


@pytest.mark.usefixtures("every_step", "terminable")
@pytest.mark.parametrize("do", [_kill, _terminate])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_whose_process_ends_after_every_single_step_ends_the_same(job, kind, do):
    """Every place between two steps is met: within epochs, at their ends, and where a stage joins."""
    this = job(**KINDS[kind])
    expected = this.run(None)
    check_that_it_trained(this, expected)
    steps = expected.computed // this.plan.accumulate
    # A kill within the second step leaves the first; a termination lets the step end in which it comes.
    at = 1 if do is _terminate else 1 + this.plan.accumulate
    starts = 0
    while this.stopped("state", at, do):
        starts += 1
        assert starts <= steps
    assert starts >= steps - 1 >= 7
    assert this.run("state") == expected


@pytest.mark.usefixtures("every_third_step")
@pytest.mark.parametrize("kind", KINDS)
def test_steps_that_were_not_kept_are_made_again_with_the_same_result(job, kind):
    this = job(**KINDS[kind])
    expected = this.run(None)
    computed = sum(this.stopped("state", at * this.plan.accumulate, _kill) for at in (1, 5, 3, 4))
    last = this.run("state")
    assert last == expected
    assert last.computed < expected.computed < computed + last.computed


@pytest.mark.usefixtures("every_third_step")
def test_samples_that_are_read_ahead_are_those_that_come_after_a_stop_too(job, encoded_threes_and_eights):
    this = replace(job(accumulate=2, augmentation="crop", flip=True), dataset=encoded_threes_and_eights)
    expected = this.run(None)
    check_that_it_trained(this, expected)
    assert all(this.stopped("state", at, _kill) for at in (3, 9, 6))
    assert this.run("state") == expected


def _uninterrupted_and_stopped(
    this: _Job, feed: Callable[[Callable[[], None]], Callable[[ModelBundle], SampleFeed]], do: Callable[[], None]
) -> tuple[_End, _End]:
    """The end of a training, and that of one which its feed stopped by `do` and which was started again."""
    this.feed = feed(lambda: None)
    expected = this.run(None)
    this.feed = feed(do)
    with pytest.raises((_Killed, SystemExit)):
        this.run("state")
    this.feed = feed(lambda: None)
    return expected, this.run("state")


class _WatchedFeed(SampleFeed):
    """A feed that does something when the validation split is read for the n-th time."""

    def __init__(self, *arguments: Any, do: Callable[[], None], at: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._do, self._at = do, at

    def validation(self, part: slice) -> Iterator[torch.Tensor]:
        self._at -= 1
        for inputs in super().validation(part):
            first, *others = inputs.split(5)
            yield first
            if self._at == 0:
                self._do()
            yield from others


@pytest.mark.usefixtures("every_step", "terminable")
@pytest.mark.parametrize("do", [_kill, _terminate])
@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("kind", ["adamw", "average of the weights"])
def test_a_training_that_is_stopped_while_it_validates_ends_the_same(job, kind, at, do):
    """Validation 1 is that of the start, and the fourth comes after the last step."""

    def feed(do: Callable[[], None]) -> Callable[[ModelBundle], SampleFeed]:
        return lambda bundle: _WatchedFeed(
            this.dataset, bundle.preprocessing, this.plan, seed=3, device=torch.device("cpu"), do=do, at=at
        )

    this = job(**KINDS[kind])
    expected, last = _uninterrupted_and_stopped(this, feed, do)
    assert last == expected
    assert last.computed == expected.computed * (4 - at) // 3 if at > 1 else expected.computed


class _MadeFeed(SampleFeed):
    """A feed that takes a while to make, and during which something happens."""

    def __init__(self, *arguments: Any, do: Callable[[], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._do, self._whole = do, False

    def ready(self, pause: Callable[[], None]) -> None:
        self._do()
        pause()
        self._whole = True

    def batch(self, *arguments: Any) -> torch.Tensor:
        assert self._whole
        return super().batch(*arguments)


@pytest.mark.usefixtures("every_step", "terminable")
@pytest.mark.parametrize("do", [_kill, _terminate])
def test_a_training_that_is_stopped_while_its_inputs_are_made_ends_the_same(job, do):
    def feed(do: Callable[[], None]) -> Callable[[ModelBundle], SampleFeed]:
        return lambda bundle: _MadeFeed(
            this.dataset, bundle.preprocessing, this.plan, seed=3, device=torch.device("cpu"), do=do
        )

    this = job()
    expected, last = _uninterrupted_and_stopped(this, feed, do)
    assert last == expected
    assert last.computed == expected.computed


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_training_that_is_killed_while_an_epoch_is_told_ends_the_same_and_tells_all_again(job, epoch):
    this = job()
    expected = this.run(None)
    assert [told for told, _ in expected.told] == [0, 1, 2, 3]

    def tell(told: int, metrics: dict[str, float]) -> None:
        if told == epoch:
            raise _Killed

    context = RunContext(seed=3, state=State(str(this.folder / "state")), on_epoch=tell)
    with pytest.raises(_Killed):
        fit(this.make(), this.dataset, this.plan, context, penalty=_Watch())
    assert this.run("state") == expected


@pytest.mark.usefixtures("every_step")
def test_a_step_that_is_killed_after_its_training_only_reads_the_result(job):
    this = job(ema=0.9)
    expected = this.run("state")
    again = this.run("state")
    assert again == expected
    assert (expected.computed, again.computed) == (9, 0)


def test_a_finished_training_keeps_only_its_result(job):
    this = job(ema=0.9)
    this.run("state")
    (file,) = (this.folder / "state" / "checkpoints").iterdir()
    weights = (this.folder / "bundle" / "model.safetensors").stat().st_size
    assert weights < file.stat().st_size < 1.2 * weights


@pytest.mark.usefixtures("every_step", "terminable")
def test_progress_and_time_count_what_was_done_before(job):
    this = job()
    told: list[tuple[str, int, int]] = []

    def start(**options: Any) -> Trained:
        context = RunContext(
            state=State(str(this.folder / "state")),
            progress=lambda label, done, total, note="": told.append((label, done, total)),
        )
        return fit(this.make(), this.dataset, this.plan, context, name="full", **options)

    with pytest.raises(SystemExit):
        start(penalty=_Watch(5, _terminate))
    assert told == [("full", 1, 3)]
    fitted = start(penalty=_Watch())
    assert told == [("full", 1, 3), ("full", 2, 3), ("full", 3, 3)]
    again = start(penalty=_Watch())
    assert told[-1] == ("full", 3, 3)
    assert again.seconds == pytest.approx(fitted.seconds, rel=0.5)
    assert again.samples_per_second == fitted.samples_per_second > 0


def other_start(this: _Job) -> _Job:
    def bundle() -> ModelBundle:
        made = this.make()
        with torch.no_grad():
            made.network.head.bias[0] += 0.5
        return made

    return replace(this, make=bundle)


CHANGES: dict[str, Callable[[_Job], _Job]] = {
    "rate": lambda this: replace(this, plan=replace(this.plan, learning_rate=this.plan.learning_rate / 2)),
    "augmentation": lambda this: replace(this, plan=replace(this.plan, augmentation="crop")),
    "epochs": lambda this: replace(this, plan=replace(this.plan, epochs=4)),
    "seed": lambda this: replace(this, seed=4),
    "name": lambda this: replace(this, name="full-l2sp"),
    "start": other_start,
}


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("change", CHANGES)
def test_another_training_does_not_go_on_from_it(job, change, caplog):
    caplog.set_level(logging.INFO)
    this = job()
    assert this.stopped("state", 5, _kill)
    other = CHANGES[change](this)
    assert other.run("state") == other.run(None)
    assert "goes on from its checkpoint" not in caplog.text
    this.run("state")
    assert "goes on from its checkpoint: epoch 2, step 1" in caplog.text


@pytest.mark.usefixtures("every_step")
def test_other_data_does_not_go_on_from_it(job, rare_and_common, threes_and_eights, caplog):
    caplog.set_level(logging.INFO)
    this = job()
    assert this.stopped("state", 5, _kill)
    swapped = replace(this, dataset=rare_and_common)
    assert swapped.run("state") == swapped.run(None)
    assert "goes on from its checkpoint" not in caplog.text


@pytest.mark.usefixtures("every_step")
def test_other_frozen_stages_do_not_go_on_from_it(job, caplog):
    caplog.set_level(logging.INFO)
    assert job().stopped("state", 5, _kill)
    frozen = job(frozen=1)
    assert frozen.run("state") == frozen.run(None)
    assert "goes on from its checkpoint" not in caplog.text


@pytest.mark.usefixtures("every_step")
def test_a_damaged_checkpoint_costs_the_work_and_not_the_result(job, caplog):
    this = job()
    expected = this.run(None)
    assert this.stopped("state", 5, _kill)
    (file,) = (this.folder / "state" / "checkpoints").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    last = this.run("state")
    assert last == expected
    assert last.computed == expected.computed
    assert "it is damaged" in caplog.text


@pytest.mark.usefixtures("every_step")
def test_the_environment_says_where_checkpoints_are(job, monkeypatch):
    this = job()
    expected = this.run(None)
    monkeypatch.setenv("HEADSTART_STATE", str(this.folder / "state"))
    with pytest.raises(_Killed):
        this.run(None, _Watch(5, _kill))
    last = this.run(None)
    assert last == expected
    assert last.computed == expected.computed - 4


def test_without_a_state_a_signal_ends_a_training_at_once(job, terminable):
    this, watch = job(), _Watch(5, _terminate)
    with pytest.raises(SystemExit):
        this.run(None, watch)
    assert watch.seen == 5
