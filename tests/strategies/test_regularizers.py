import copy

import pytest
import torch
from torch import nn

from headstart.models.architectures.convnet import convnet
from headstart.models.network import Network
from headstart.strategies.regularizer import REGULARIZERS
from headstart.strategies.regularizers.delta import delta
from headstart.strategies.regularizers.l2 import l2
from headstart.strategies.regularizers.l2_sp import l2_sp
from headstart.training.penalty import sum_of_squares

INPUTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


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


def penalised(penalty, network, inputs=INPUTS, start=0) -> torch.Tensor:
    return penalty(network, inputs, network.activations(inputs, start), start)


def value(penalty, network, inputs=INPUTS, start=0) -> float:
    return penalised(penalty, network, inputs, start).item()


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
    penalty = REGULARIZERS[name].penalty(network, 0.25)
    with torch.no_grad():
        network.stages[0].weight += 1.0
    penalised(penalty, network).backward()
    away = network.stages[0].weight - (centre.stages[0].weight if name == "l2_sp" else 0.0)
    assert torch.allclose(network.stages[0].weight.grad, 0.5 * away)
    assert torch.allclose(network.head.weight.grad, 0.5 * network.head.weight)


@pytest.mark.parametrize("name", ["l2", "l2_sp"])
def test_the_gradient_is_that_of_the_formula(name):
    torch.manual_seed(0)
    network = convnet(classes=3, channels=1)
    centre = {n: p.detach().clone() for n, p in network.stages.named_parameters()} if name == "l2_sp" else {}
    penalty = REGULARIZERS[name].penalty(network, 0.1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    images = torch.rand(4, 1, 16, 16)
    penalised(penalty, network, images).backward()
    formula = 0.1 * sum((p - centre.get(n, 0.0)).square().sum() for n, p in network.stages.named_parameters())
    formula = formula + 0.1 * sum(p.square().sum() for p in network.head.parameters())
    expected = torch.autograd.grad(formula, list(network.parameters()))
    assert value(penalty, network, images) == pytest.approx(formula.item(), rel=1e-5)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_a_stage_that_thaws_later_is_pulled_to_where_it_started(network):
    network.freeze(2)
    penalty = l2_sp(network, 1.0)
    network.freeze(1)
    with torch.no_grad():
        network.stages[1].bias -= 3.0
    assert value(penalty, network) == pytest.approx(9 + 6)


def test_delta_is_the_pull_of_the_head_alone_while_every_map_is_the_sources(network):
    penalty = delta(network, 0.5)
    assert value(penalty, network) == pytest.approx(0.5 * 6)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    assert value(penalty, network) == 0.0


def test_delta_holds_what_the_network_does_and_not_its_weights():
    network = Network([nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))], nn.Linear(1, 2))
    behaviour, weights = delta(network, 1.0), l2_sp(network, 1.0)
    at_the_start = value(behaviour, network)
    with torch.no_grad():
        # The same map by other weights: what one layer doubles the next one halves.
        network.stages[0][0].weight *= 2
        network.stages[0][1].weight /= 2
    assert value(behaviour, network) == pytest.approx(at_the_start)
    assert value(weights, network) > at_the_start


def test_delta_counts_the_squared_way_of_each_map(network):
    penalty = delta(network, 2.0)
    with torch.no_grad():
        network.stages[1].bias += 3.0
    # the second stage's one channel is 3 away in each sample
    assert value(penalty, network) == pytest.approx(2.0 * (9 + 6))
    with torch.no_grad():
        network.stages[0].weight += 1.0
    # the first stage's two channels are x1 + x2 away: 1, 1 and 2; the second's channel 5 + 6 = 11 times that, and 3
    first = 2 * (1 + 1 + 4) / 3
    second = (14**2 + 14**2 + 25**2) / 3
    assert value(penalty, network) == pytest.approx(2.0 * (first + second + 6))


def test_delta_takes_the_mean_over_positions_and_the_sum_over_channels():
    network = Network([nn.Conv2d(1, 4, 1, bias=False), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())],
                      nn.Linear(4, 2))  # fmt: skip
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    penalty = delta(network, 1.0)
    with torch.no_grad():
        network.stages[0].weight += 0.5
    for side in (4, 8):
        # four channels that are 0.5 away at every position, in the map and in its mean
        assert value(penalty, network, torch.ones(3, 1, side, side)) == pytest.approx(2 * 4 * 0.25)


def test_deltas_maps_may_be_tokens():
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=1)

    network = Network([nn.Linear(2, 4, bias=False), Mean()], nn.Linear(4, 2))
    penalty = delta(network, 2.0)
    tokens = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    before = network.activations(tokens)
    with torch.no_grad():
        network.stages[0].weight += torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    after = network.activations(tokens)
    # Five positions of four channels, and their mean, over a batch of three.
    maps = sum(
        (now - then).square().sum().item() / 3 / places for now, then, places in zip(after, before, (5, 1), strict=True)
    )
    head = network.head.weight.square().sum().item() + network.head.bias.square().sum().item()
    assert value(penalty, network, tokens) == pytest.approx(2.0 * (maps + head), rel=1e-5)


def test_deltas_gradient_reaches_the_weights_and_not_the_source(network):
    penalty = delta(network, 1.0)
    with torch.no_grad():
        network.stages[0].weight += 1.0
    for _ in range(2):
        # A second step meets the same source.
        penalised(penalty, network).backward()
    once = copy.deepcopy(network)
    once.zero_grad()
    penalised(penalty, once).backward()
    assert once.stages[0].weight.grad.abs().min() > 0
    assert torch.allclose(network.stages[0].weight.grad, 2 * once.stages[0].weight.grad)


@pytest.mark.parametrize("start", [0, 1])
def test_delta_begins_where_training_does_whether_frozen_stages_are_read_from_a_cache_or_not(network, start):
    network.freeze(1)
    penalty = delta(network, 2.0)
    with torch.no_grad():
        network.stages[1].bias += 3.0
    inputs = network.activations(INPUTS)[0].detach() if start else INPUTS
    assert value(penalty, network, inputs, start) == pytest.approx(2.0 * (9 + 6))


def test_with_every_stage_frozen_delta_is_the_pull_of_the_head(network):
    network.freeze(2)
    penalty = delta(network, 2.0)
    features = network.features(INPUTS).detach()
    assert value(penalty, network, features, 2) == value(penalty, network, INPUTS, 0) == pytest.approx(2.0 * 6)


def test_a_penalty_is_a_float32_scalar_whatever_the_networks_precision(network):
    network = network.bfloat16()
    for regularizer in REGULARIZERS.values():
        penalty = penalised(regularizer.penalty(network, 0.5), network, INPUTS.bfloat16())
        assert penalty.dtype == torch.float32
        assert penalty.shape == ()


def test_the_sum_of_squares_of_no_tensor_is_zero():
    assert sum_of_squares([]).item() == 0.0
