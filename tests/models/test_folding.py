"""Folding batch norms changes how long a prediction takes, and nothing else."""

import pytest
import torch
from torch import nn

from headstart.models.architectures import build_network
from headstart.models.folding import fold_batch_norms


def seasoned(stages: nn.ModuleList) -> nn.ModuleList:
    """In eval mode, with batch norms that have seen something."""
    generator = torch.Generator().manual_seed(0)
    for module in stages.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)):
                values.data.uniform_(low, low + 1, generator=generator)
            module.bias.data.uniform_(-0.5, 0.5, generator=generator)
    return stages.eval()


def through(stages: nn.ModuleList, inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        for stage in stages:
            inputs = stage(inputs)
    return inputs


@pytest.fixture
def normalised(monkeypatch) -> list[torch.Size]:
    """The shapes of what batch norms have normalised so far."""
    shapes = []
    forward = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: shapes.append(x.shape) or forward(self, x))
    return shapes


@pytest.mark.parametrize("name", ["convnet", "resnet18", "mobilenet_v3_small"])
def test_a_network_gives_what_it_gave_without_a_batch_norm_left(name, normalised):
    stages = seasoned(build_network(name, classes=2, channels=3).stages)
    before = {key: value.clone() for key, value in stages.state_dict().items()}
    folded = fold_batch_norms(stages, torch.rand(1, 3, 64, 64))
    inputs = torch.rand(4, 3, 48, 48)
    expected = through(stages, inputs)
    normalised.clear()
    found = through(folded, inputs)
    assert normalised == []
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # The stages themselves still train as they did.
    assert all(torch.equal(before[key], value) for key, value in stages.state_dict().items())


def test_a_network_without_batch_norms_is_left_alone():
    stages = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())])
    assert fold_batch_norms(stages, torch.rand(1, 1, 8, 8))[0] is stages[0]


class _Block(nn.Module):
    """A convolution and a batch norm in a relation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)


class _NormFirst(_Block):
    def forward(self, x):
        return self.convolution(self.norm(x))


class _ReadTwice(_Block):
    def forward(self, x):
        x = self.convolution(x)
        return x + self.norm(x)


class _ConvolvedTwice(_Block):
    def forward(self, x):
        return self.convolution(self.norm(self.convolution(x)))


class _NormalisedTwice(_Block):
    def forward(self, x):
        return self.norm(self.norm(self.convolution(x)) + x)


class _OfTheBatch(_Block):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2, track_running_stats=False)

    def forward(self, x):
        return self.norm(self.convolution(x))


class _Branching(_Block):
    def forward(self, x):
        return self.norm(self.convolution(x)) if x.sum() > 0 else x


class _Counting(_Block):
    """Each call of it gives more, which a trace would not."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.norm(self.convolution(x)) * self.calls


@pytest.mark.parametrize("block", [_NormFirst, _ReadTwice, _ConvolvedTwice, _NormalisedTwice, _OfTheBatch, _Branching])
def test_a_batch_norm_that_is_no_part_of_one_convolution_stays(block, normalised):
    stages = nn.ModuleList([block()])
    if not isinstance(stages[0], _OfTheBatch):
        stages = seasoned(stages)
    folded = fold_batch_norms(stages.eval(), torch.rand(1, 2, 8, 8))
    inputs = torch.rand(3, 2, 8, 8)
    normalised.clear()
    found = through(folded, inputs)
    left = len(normalised)
    assert torch.equal(found, through(stages, inputs))
    assert len(normalised) == 2 * left > 0


def test_a_stage_that_a_trace_does_not_stand_for_is_left_alone():
    stages = seasoned(nn.ModuleList([_Counting()]))
    assert fold_batch_norms(stages, torch.rand(1, 2, 8, 8))[0] is stages[0]
