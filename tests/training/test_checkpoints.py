import logging
import math
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.signals import Interruption
from headstart.storage.state import State
from headstart.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    load_optimizer,
    optimizer_tensors,
)

JOB = {"plan": {"epochs": 3, "rate": 0.1}, "seed": 0}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture
def state(tmp_path) -> State:
    return State(str(tmp_path / "state"))


def bits(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(one, other) -> bool:
    """Equal names, types, shapes and bits; NaN too has its bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and bits(one[name]) == bits(other[name])
        for name in one
    )


def small(value: float = 1.0) -> Checkpoint:
    return Checkpoint({"module.weight": torch.full((8,), value)}, {"epoch": value})


def file_of(state: State, checkpoints: Checkpoints):
    return state.folder / "checkpoints" / f"{checkpoints.key}.safetensors"


def test_every_bit_comes_back(state):
    generator = torch.Generator().manual_seed(0)
    payload = struct.unpack("f", struct.pack("I", 0x7FC12345))[0]
    tensors = {
        "weight": torch.randn(3, 4, 5, 5, generator=generator),
        "channels_last": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 5, generator=generator).T,
        "special": torch.tensor([math.nan, payload, math.inf, -math.inf, -0.0, 1e-45]),
        "double": torch.randn(2, dtype=torch.float64, generator=generator),
        "half": torch.randn(3, generator=generator).half(),
        "brain": torch.randn(3, generator=generator).bfloat16(),
        "count": torch.tensor(2**40 + 1),
        "byte": torch.arange(3, dtype=torch.uint8),
        "flag": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
        "parameter": nn.Parameter(torch.ones(2)),
        "ключ.1": torch.tensor([1], dtype=torch.int32),
    }
    record = {
        "history": [{"loss": 0.1 + 0.2, "accuracy": 1 / 3}],
        "best": -math.inf,
        "step": 2**60,
        "name": "σ",
        "none": None,
    }
    Checkpoints(state, JOB).save(Checkpoint(tensors, record))
    found = Checkpoints(state, JOB).load()
    assert same(found.tensors, tensors)
    assert found.record == record


def test_a_loss_that_is_no_number_stays_one_in_the_record(state):
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(Checkpoint({}, {"losses": [math.nan, math.inf, -math.inf]}))
    first, *others = checkpoints.load().record["losses"]
    assert math.isnan(first)
    assert others == [math.inf, -math.inf]


def test_a_job_has_one_checkpoint_the_last(state):
    checkpoints = Checkpoints(state, JOB)
    assert checkpoints.load() is None
    for value in (1.0, 2.0):
        checkpoints.save(small(value))
    assert checkpoints.load().record == {"epoch": 2.0}
    assert [path for path in state.folder.rglob("*") if path.is_file()] == [file_of(state, checkpoints)]


def test_what_was_loaded_stays_when_the_file_is_replaced_and_removed(state):
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(small(1.0))
    found = checkpoints.load()
    checkpoints.save(small(2.0))
    assert same(found.tensors, small(1.0).tensors)
    state.remove(f"checkpoints/{checkpoints.key}.safetensors")
    found.tensors["module.weight"] += 1
    assert same(found.tensors, small(2.0).tensors)


def test_loaded_tensors_may_be_changed_without_changing_the_checkpoint(state):
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(small(1.0))
    checkpoints.load().tensors["module.weight"].zero_()
    assert same(checkpoints.load().tensors, small(1.0).tensors)


def test_only_the_same_job_goes_on_from_it(state, monkeypatch):
    Checkpoints(state, JOB).save(small())
    assert Checkpoints(state, {"seed": 0, "plan": {"rate": 0.1, "epochs": 3}}).load()
    assert Checkpoints(state, {**JOB, "seed": 1}).load() is None
    assert Checkpoints(state, {**JOB, "plan": {"epochs": 3, "rate": 0.2}}).load() is None
    monkeypatch.setenv("HEADSTART_CODE", "other code")
    assert Checkpoints(state, JOB).load() is None


class _Harm:
    """What runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def damages(content, path):
    """Files that must not be taken for the checkpoint whose content is given, by what is wrong with them."""
    length = int.from_bytes(content[:8], "little")
    for share in (0, 3, 8, 8 + length // 2, 8 + length, len(content) - 1):
        yield f"cut to {share}", content[:share]
    yield "longer", content + b"\0"
    for place in np.random.default_rng(0).choice(len(content), 200, replace=False):
        yield f"byte {place} changed", content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    yield "zeros", b"\0" * len(content)
    for header in (b"[]", b"{}", b'{"__metadata__": []}', b'{"__metadata__": {"digest": ""}}', b"[" * 100_000, b"\xff"):
        yield f"header {header[:40]}", len(header).to_bytes(8, "little") + header
    yield "endless header", b"\xff" * 8 + content[8:]
    yield "pickle", pickle.dumps(_Harm(path / "unpickled"))
    torch.save({"module.weight": _Harm(path / "unpickled")}, path / "torch")
    yield "torch.save", (path / "torch").read_bytes()
    save_file(small().tensors, path / "foreign", metadata={"record": "{}"})
    yield "foreign safetensors", (path / "foreign").read_bytes()


def test_a_damaged_foreign_or_pickled_file_is_never_trusted_and_named(state, tmp_path, caplog):
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(small())
    path = file_of(state, checkpoints)
    for what, content in damages(path.read_bytes(), tmp_path):
        path.write_bytes(content)
        caplog.clear()
        assert checkpoints.load() is None, what
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert f"The checkpoint checkpoints/{checkpoints.key}.safetensors cannot be used: it" in warning.getMessage()
    assert not (tmp_path / "unpickled").exists()


def test_another_jobs_file_under_this_jobs_name_is_not_trusted(state, caplog):
    mine, other = Checkpoints(state, JOB), Checkpoints(state, {**JOB, "seed": 1})
    other.save(small())
    file_of(state, other).rename(file_of(state, mine))
    assert mine.load() is None
    assert "it belongs to another job" in caplog.text


def test_a_full_disk_is_a_warning_and_leaves_the_checkpoint_before(state, monkeypatch, caplog):
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(small(1.0))

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        checkpoints.save(small(2.0))
    assert "could not be written ([Errno 28] No space left on device)" in caplog.text
    assert checkpoints.load().record == {"epoch": 1.0}


def _save_for_ever(location, told):
    checkpoints = Checkpoints(State(location), JOB)
    version = 0
    while True:
        version += 1
        tensors = {f"module.{index}": torch.full((1000, 100), float(version)) for index in range(10)}
        checkpoints.save(Checkpoint(tensors, {"version": version}))
        told.send(version)


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_checkpoint(state):
    context = multiprocessing.get_context("fork")
    seen = 0
    for _ in range(5):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_save_for_ever, args=(str(state.folder), writer))
        process.start()
        told = [reader.recv() for _ in range(3)][-1]
        process.kill()
        process.join()
        found = Checkpoints(state, JOB).load()
        seen = found.record["version"]
        assert seen >= told
        assert all(bool((tensor == seen).all()) for tensor in found.tensors.values())
    assert seen


def test_checkpoints_of_jobs_that_nobody_goes_on_with_are_removed(state):
    jobs = [{"seed": seed} for seed in range(3)]
    mine, fresh, stale = [Checkpoints(state, job) for job in jobs]
    for checkpoints in (mine, fresh, stale):
        checkpoints.save(small())
    for checkpoints in (mine, stale):
        moment = os.stat(file_of(state, fresh)).st_mtime - 15 * 24 * 3600
        os.utime(file_of(state, checkpoints), (moment, moment))
    Checkpoints(state, jobs[0])
    assert mine.load()
    assert fresh.load()
    assert stale.load() is None


def test_a_checkpoint_is_due_when_the_time_since_the_last_is_over(state, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("headstart.training.checkpoints.time.monotonic", lambda: now)
    checkpoints = Checkpoints(state, JOB, every=60)
    assert Checkpoints(state, JOB, every=0).due
    now = 1059.0
    assert not checkpoints.due
    now = 1060.0
    assert checkpoints.due
    checkpoints.save(small())
    assert not checkpoints.due
    now = 1120.0
    assert checkpoints.due


# The optimiser

OPTIMIZERS = {
    "fused adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True, foreach=False),
    "foreach adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, foreach=True),
    "fused sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    "plain sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
}


class _Training:
    """Steps of a small network whose first layer joins at step 3."""

    def __init__(self, kind, device):
        torch.manual_seed(0)
        first = nn.Conv2d(2, 4, 3, bias=False)
        self.network = nn.Sequential(first, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).to(device)
        self.network.to(memory_format=torch.channels_last)
        self.first, self.device = self.network[0], device
        # A group a layer and kind: the fused SGD wants the momentum of all of a group or of none.
        norm, head = self.network[1], self.network[3]
        groups = [
            {"params": [self.first.weight], "weight_decay": 0.1},
            {"params": [norm.weight, norm.bias]},
            {"params": [head.weight], "weight_decay": 0.1},
            {"params": [head.bias], "lr": 0.02},
        ]
        self.optimizer = OPTIMIZERS[kind](groups)

    def steps(self, start, stop):
        for step in range(start, stop):
            self.first.requires_grad_(step >= 3)
            inputs = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(step)).to(self.device)
            self.optimizer.zero_grad(set_to_none=True)
            self.network(inputs.to(memory_format=torch.channels_last)).square().mean().backward()
            self.optimizer.step()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("stopped", [0, 1, 3, 4])
def test_a_training_goes_on_bit_for_bit_from_any_step(state, kind, device, stopped):
    """Also from before a layer joined, for which the optimiser has nothing yet."""
    whole, before, after = (_Training(kind, device) for _ in range(3))
    start = {name: value.clone() for name, value in whole.network.state_dict().items()}
    whole.steps(0, 6)
    before.steps(0, stopped)
    module = {f"module.{name}": value for name, value in before.network.state_dict().items()}
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(Checkpoint({**module, **optimizer_tensors(before.optimizer)}, {}))
    found = checkpoints.load().tensors
    after.network.load_state_dict({name: found[f"module.{name}"] for name in start})
    load_optimizer(after.optimizer, found)
    after.steps(stopped, 6)
    assert same(after.network.state_dict(), whole.network.state_dict())
    assert same(optimizer_tensors(after.optimizer), optimizer_tensors(whole.optimizer))
    assert not any(torch.equal(value, start[name]) for name, value in whole.network.state_dict().items())


def test_what_an_optimiser_gathered_lies_in_memory_as_its_parameters_do(state):
    training = _Training("fused adamw", "cpu")
    training.steps(0, 4)
    checkpoints = Checkpoints(state, JOB)
    checkpoints.save(Checkpoint(optimizer_tensors(training.optimizer), {}))
    load_optimizer(training.optimizer, checkpoints.load().tensors)
    moments = training.optimizer.state[training.first.weight]["exp_avg"]
    assert moments.stride() == training.first.weight.stride()
    assert not moments.is_contiguous()


def test_an_optimiser_forgets_what_it_had_gathered_before():
    training = _Training("fused adamw", "cpu")
    training.steps(0, 2)
    load_optimizer(training.optimizer, {"module.weight": torch.ones(1)})
    assert optimizer_tensors(training.optimizer) == {}


# Signals


@pytest.fixture
def handlers():
    """Handlers as the steps of a pipeline have them, and after the test those that were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    now = {number: signal.getsignal(number) for number in before}
    yield now
    for number, handler in before.items():
        signal.signal(number, handler)


def _interrupted_in_the_third_step(numbers, told):
    with Interruption() as interruption:
        for step in range(1, 10):
            if step == 3:
                for number in numbers:
                    signal.raise_signal(number)
            if interruption.requested:
                told.append(step)
                interruption.raise_again()


@pytest.mark.parametrize(
    ("numbers", "error", "code"),
    [
        ([signal.SIGTERM], SystemExit, 143),
        ([signal.SIGINT], KeyboardInterrupt, None),
        ([signal.SIGINT, signal.SIGTERM, signal.SIGINT], KeyboardInterrupt, None),
    ],
    ids=["SIGTERM", "SIGINT", "an impatient sender"],
)
def test_a_signal_waits_until_the_training_lets_it_take_effect(handlers, numbers, error, code):
    told = []
    with pytest.raises(error) as raised:
        _interrupted_in_the_third_step(numbers, told)
    assert told == [3]
    assert getattr(raised.value, "code", None) == code
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_signal_that_nobody_looked_for_takes_effect_at_the_end(handlers):
    work = []

    def go():
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
            work.append("done")

    with pytest.raises(SystemExit):
        go()
    assert work == ["done"]


def test_a_failure_stays_what_it_is_and_gives_the_handlers_back(handlers):
    def fail():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("the loss became nan")

    with pytest.raises(ValueError, match="the loss became nan"), Interruption():
        fail()
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_without_a_signal_nothing_happens(handlers):
    with Interruption() as interruption:
        assert not interruption.requested
        interruption.raise_again()
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_signal_that_is_ignored_stays_so(handlers):
    """As SIGINT is for what a shell starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert not interruption.requested


def test_outside_of_the_main_thread_signals_are_left_alone(handlers):
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append((interruption.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, handlers[signal.SIGTERM])]


def _end(told):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        told.send(interruption.requested)
        interruption.raise_again()
    told.send("went on")


def test_where_nobody_handles_the_signal_the_process_ends_by_it():
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_end, args=(writer,))
    process.start()
    writer.close()
    process.join()
    assert reader.recv() is True
    with pytest.raises(EOFError):
        reader.recv()
    assert process.exitcode == -signal.SIGTERM
