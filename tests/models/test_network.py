import copy

import pytest
import torch
from torch import Tensor, nn

from headstart.errors import InputError
from headstart.models.architectures.convnet import convnet
from headstart.models.network import Network, adapt_channels
from headstart.models.stages import cut_into_stages


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def train_one_step(network: Network, channels: int = 1) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network.train()
    loss = nn.functional.cross_entropy(network(torch.randn(8, channels, 32, 32)), torch.arange(8) % 3)
    loss.backward()
    optimizer.step()


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return convnet(classes=3, channels=1)


def test_a_frozen_stage_keeps_weights_and_batch_norm_statistics_to_the_bit_while_the_others_learn(network):
    network.freeze(3)
    before = [snapshot(stage) for stage in network.stages]
    head_before = network.head.weight.clone()
    train_one_step(network)
    for position, (stage, old) in enumerate(zip(network.stages, before, strict=True)):
        new = stage.state_dict()
        if position < 3:
            assert all(torch.equal(new[name], old[name]) for name in old)
        else:
            assert not any(torch.equal(new[name], old[name]) for name in old if name.endswith("running_mean"))
            assert any(not torch.equal(parameter, old[name]) for name, parameter in stage.named_parameters())
    assert not torch.equal(network.head.weight, head_before)


def test_freezing_every_stage_leaves_only_the_head_to_train(network):
    network.freeze(len(network.stages))
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


def test_a_frozen_network_put_into_training_stays_frozen_and_unfreezing_frees_it(network):
    network.freeze(2)
    network.eval()
    network.train()
    assert [stage.training for stage in network.stages] == [False, False, True, True, True]
    network.unfreeze()
    assert network.frozen_stages == 0
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_freezing_less_than_before_frees_the_later_stages(network):
    network.freeze(4)
    network.freeze(1)
    assert [stage.training for stage in network.stages] == [False, True, True, True, True]


@pytest.mark.parametrize("stages", [-1, 6])
def test_freezing_stages_that_do_not_exist_is_refused(network, stages):
    with pytest.raises(InputError, match="choose 0 to 5"):
        network.freeze(stages)


def test_logits_are_the_head_applied_to_the_features(network):
    x = torch.randn(2, 1, 32, 32)
    network.eval()
    assert torch.equal(network(x), network.head(network.features(x)))


def test_a_replaced_head_has_the_new_classes_and_depends_on_the_generator_only(network):
    other = copy.deepcopy(network)
    network.replace_head(7, torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    other.replace_head(7, torch.Generator().manual_seed(1))
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert torch.equal(network.head.weight, other.head.weight)


def test_a_replaced_head_is_where_the_old_one_was_and_of_its_type(network):
    network.double()
    network.replace_head(2)
    assert network.head.weight.dtype == torch.float64


def test_a_network_adapted_to_grey_answers_as_it_did_to_the_same_picture_in_rgb():
    network = convnet(classes=3).eval()
    grey = torch.randn(2, 1, 32, 32)
    before = network(grey.expand(-1, 3, -1, -1))
    adapt_channels(network, 1)
    assert torch.allclose(network(grey), before, atol=1e-5)
    adapt_channels(network, 4)
    assert torch.allclose(network(grey.expand(-1, 4, -1, -1)), before, atol=1e-5)


def test_a_stage_starts_where_the_resolution_falls_and_always_has_weights():
    conv = lambda stride: nn.Conv2d(4, 4, 3, stride)  # noqa: E731
    trunk = [nn.ReLU(), conv(2), nn.ReLU(), nn.MaxPool2d(2), conv(1), nn.AvgPool2d(3, 1), conv(2), nn.MaxPool2d(2)]
    stages = cut_into_stages(trunk)
    assert [[type(module).__name__ for module in stage] for stage in stages] == [
        ["ReLU", "Conv2d", "ReLU"],
        ["MaxPool2d", "Conv2d", "AvgPool2d"],
        ["Conv2d", "MaxPool2d"],
    ]
