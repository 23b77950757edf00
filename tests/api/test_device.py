"""What predicts many samples does so on the device that a training would have."""

from contextlib import suppress

import pytest
import torch

import headstart as hs
from headstart.training import engine
from headstart_pipelines.cli import main


@pytest.mark.parametrize("command", ["predict", "evaluate", "monitor"])
def test_a_command_about_many_samples_takes_the_gpu_where_there_is_one(own, images, monkeypatch, command):
    moved = []

    def move(network, device):
        moved.append((network.head.out_features, device.type))
        return network

    monkeypatch.setattr(engine, "training_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.nn.Module, "to", move)
    with suppress(SystemExit):
        main([command, "models:/digits-target/1", str(images / "digits"), "--workspace", str(own.workspace)])
    assert moved == [(10, "cuda")]


def test_a_model_in_python_is_on_the_cpu(own):
    bundle = hs.load("models:/digits-target/1", workspace=own.workspace).bundle
    assert bundle.network.head.weight.device.type == "cpu"
