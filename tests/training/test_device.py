"""The device of a training: CUDA's GPU or the CPU, and Apple's GPU where it is asked for."""

import pytest
import torch

from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.training import engine
from headstart.training.distributed import Group
from headstart.training.engine import move_to_training_device, training_device
from headstart.training.speed import _choose, _has_compiler, precisions
from headstart.training.timings import Step

MPS = torch.device("mps")


@pytest.fixture
def apple(monkeypatch) -> None:
    """A machine whose GPU is Apple's."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_apples_gpu_is_taken_where_it_is_asked_for_and_the_cpu_elsewhere(apple, monkeypatch):
    assert training_device() == torch.device("cpu")
    monkeypatch.setenv("HEADSTART_DEVICE", "mps")
    assert training_device() == MPS


def test_the_cpu_may_be_asked_for_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device() == torch.device("cuda", 0)
    monkeypatch.setenv("HEADSTART_DEVICE", "cpu")
    assert training_device() == torch.device("cpu")


def test_where_torch_sees_no_apple_gpu_asking_for_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("HEADSTART_DEVICE", "mps")
    with pytest.raises(InputError, match="torch sees no Apple GPU here; unset it"):
        training_device()


def test_another_device_is_refused_with_those_that_there_are(monkeypatch):
    monkeypatch.setenv("HEADSTART_DEVICE", "gpu")
    with pytest.raises(InputError, match="HEADSTART_DEVICE is gpu; set it to cpu or mps"):
        training_device()


def test_several_processes_do_not_train_on_it(apple, monkeypatch):
    monkeypatch.setenv("HEADSTART_DEVICE", "mps")
    monkeypatch.setattr(engine, "current_group", lambda: Group(0, 2, 0))
    with pytest.raises(InputError, match="on which one process trains, and there are 2"):
        training_device()


def test_it_computes_in_fp32_and_uncompiled_and_bf16_is_refused():
    class Example:
        device = MPS

    class Plan:
        precision = "bf16"

    assert precisions(MPS) == ["fp32"]
    assert not _has_compiler(MPS)
    with pytest.raises(InputError, match="bf16, which is not used on Apple's GPU; set auto or fp32"):
        _choose(Step(None, Example(), 0), Plan(), 100, None)


def test_a_network_is_moved_to_the_gpu_unless_that_lacks_its_double_precision(monkeypatch):
    single = build_network("convnet", classes=2, channels=1)
    double = build_network("classical/image/pixels/margin_svc/3x4", classes=2, channels=1)
    monkeypatch.setattr(engine, "training_device", lambda: MPS)
    move_to_training_device(double)
    assert {each.device.type for each in double.buffers()} == {"cpu"}
    # Any device that torch has here beside the CPU.
    monkeypatch.setattr(engine, "training_device", lambda: torch.device("meta"))
    for network in (single, double):
        move_to_training_device(network)
        assert {each.device.type for each in (*network.parameters(), *network.buffers())} == {"meta"}
