import copy

import pytest
import torch
from torch import nn

from headstart.models.network import Network
from headstart.transfer.regularizers import REGULARIZERS, l2, l2_sp


@pytest.fixture
def network() -> Network:
    """Two stages, 2 → 2 → 1 features, and a head of two classes, with round weights."""
    stages = [nn.Linear(2, 2, bias=False), nn.Linear(2, 1)]
    network = Network(stages, nn.Linear(1, 2))
    with torch.no_grad():
        stages[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        stages[1].weight.copy_(torch.tensor([[5.0, 6.0]]))
        stages[1].bias.fill_(7.0)
        network.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.head.bias.copy_(torch.tensor([0.0, 2.0]))
    return network


def value(penalty, network) -> float:
    return penalty(network).item()


def test_l2_is_the_strength_times_the_sum_of_squared_weights(network):
    # 1+4+9+16 = 30, 25+36+49 = 110, and 1+1+0+4 = 6 in the head
    assert value(l2(network, 0.5), network) == pytest.approx(0.5 * (30 + 110 + 6))


def test_l2_leaves_out_what_is_frozen(network):
    network.freeze(1)
    assert value(l2(network, 0.5), network) == pytest.approx(0.5 * (110 + 6))


def test_l2_sp_at_the_sources_weights_is_the_pull_of_the_new_head_alone(network):
    penalty = l2_sp(network, 0.5)
    assert value(penalty, network) == pytest.approx(0.5 * 6)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    assert value(penalty, network) == 0.0


def test_l2_sp_counts_the_squared_way_of_each_transferred_weight(network):
    penalty = l2_sp(network, 2.0)
    with torch.no_grad():
        network.stages[0].weight += 0.5
        network.stages[1].bias -= 3.0
    # four weights moved by 0.5 and one by 3, and 6 from the head
    assert value(penalty, network) == pytest.approx(2.0 * (4 * 0.25 + 9 + 6))


def test_l2_sp_leaves_out_what_is_frozen(network):
    network.freeze(1)
    penalty = l2_sp(network, 2.0)
    with torch.no_grad():
        network.stages[0].weight += 0.5
        network.stages[1].bias -= 3.0
    assert value(penalty, network) == pytest.approx(2.0 * (9 + 6))


def test_l2_sp_takes_a_head_as_new_also_when_it_is_replaced_by_a_wider_one(network):
    penalty = l2_sp(network, 1.0)
    network.replace_head(5)
    expected = network.head.weight.square().sum().item() + network.head.bias.square().sum().item()
    assert value(penalty, network) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["l2", "l2_sp"])
def test_gradients_point_away_from_the_centre_at_twice_the_strength(network, name):
    centre = copy.deepcopy(network)
    penalty = REGULARIZERS[name](network, 0.25)
    with torch.no_grad():
        network.stages[0].weight += 1.0
    penalty(network).backward()
    away = network.stages[0].weight - (centre.stages[0].weight if name == "l2_sp" else 0.0)
    assert torch.allclose(network.stages[0].weight.grad, 0.5 * away)
    assert torch.allclose(network.head.weight.grad, 0.5 * network.head.weight)
