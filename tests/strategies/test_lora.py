import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.architectures.convnet import convnet
from headstart.models.network import Network, linear_head
from headstart.recipe.recipe import Recipe
from headstart.strategies.low_rank import add_lora, merge_lora

RANK = 2
# Of torchvision's networks, those with most of their weights in linear layers.
ADAPTED = ("convnext", "maxvit", "swin", "vit")


@pytest.fixture
def transformer() -> Network:
    """torchvision's vision transformer, small: two blocks of width 12 with three heads, patches of 4 pixels."""
    from torchvision.models import VisionTransformer

    from headstart.models.torchvision import ClassToken, PatchEmbedding

    torch.manual_seed(0)
    model = VisionTransformer(16, 4, num_layers=2, num_heads=3, hidden_dim=12, mlp_dim=24, num_classes=3)
    embedding, first, last = (nn.Sequential(part) for part in (PatchEmbedding(model), *model.encoder.layers))
    last.extend([model.encoder.ln, ClassToken()])
    return Network([embedding, first, last], linear_head(12, 3)).eval()


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def trained(network: Network, steps: int = 3) -> Network:
    """`network` after a few steps on what requires a gradient."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    labels = torch.tensor([0, 1, 2, 1])
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images()), labels).backward()
        optimizer.step()
    return network


def test_an_adapted_network_starts_as_the_network_that_it_adapts(transformer):
    before = transformer(images())
    add_lora(transformer, RANK, architecture="vit", seed=0)
    assert torch.equal(transformer(images()), before)


def test_only_the_low_rank_factors_and_the_head_train(transformer):
    add_lora(transformer, RANK, architecture="vit", seed=0)
    names = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert {name for name in names if not name.endswith((".up", ".down"))} == {"head.weight", "head.bias"}
    # In each block the attention's two weights and the perceptron's two, with two factors each.
    assert len(names) == 2 + 2 * 4 * 2


def test_what_is_added_to_each_matrix_has_the_rank_asked_for(transformer):
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    add_lora(transformer, RANK, architecture="vit", seed=0)
    merge_lora(trained(transformer))
    after = transformer.state_dict()
    moved = {name: after[name] - before[name] for name in before if not torch.equal(after[name], before[name])}
    for name in ("head.weight", "head.bias"):
        del moved[name]
    assert len(moved) == 8
    for name, change in moved.items():
        # Queries, keys and values are three matrices in one parameter.
        for matrix in change.chunk(3) if "in_proj" in name else [change]:
            values = torch.linalg.svdvals(matrix)
            assert values[RANK - 1] > 1e-4 * values[0]
            assert values[RANK] < 1e-5 * values[0]


def test_the_merged_network_predicts_what_the_adapted_one_does_and_has_its_architectures_state(transformer):
    shapes = {name: value.shape for name, value in transformer.state_dict().items()}
    plain = transformer(images())
    add_lora(transformer, RANK, architecture="vit", seed=0)
    trained(transformer)
    with torch.inference_mode():
        adapted = transformer(images())
    # With gradients torch's attention takes another way.
    assert torch.allclose(transformer(images()), adapted, atol=1e-5)
    merge_lora(transformer)
    assert torch.allclose(transformer(images()), adapted, atol=1e-5)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    assert {name: value.shape for name, value in transformer.state_dict().items()} == shapes


def test_the_seed_decides_the_factors(transformer):
    one, same, other = (copy.deepcopy(transformer) for _ in range(3))
    for noise, (network, seed) in enumerate([(one, 1), (same, 1), (other, 2)]):
        torch.manual_seed(noise)
        add_lora(network, RANK, architecture="vit", seed=seed)
        merge_lora(trained(network))
    assert torch.equal(one(images()), same(images()))
    assert not torch.equal(one(images()), other(images()))


def test_an_encoder_of_texts_takes_it_whatever_the_size_of_its_vocabulary():
    network = build_network("transformer_tiny", classes=2, channels=30_000)

    add_lora(network, 4, architecture="transformer_tiny", seed=0)

    trained = sum(parameter.numel() for parameter in network.stages.parameters() if parameter.requires_grad)
    assert 0 < trained < 0.01 * sum(parameter.numel() for parameter in network.stages.parameters())


def test_a_convolutional_network_is_refused_with_what_to_do_instead():
    network = convnet(classes=3, channels=1)
    with pytest.raises(InputError, match=r"most of convnet's weights are in others; use freeze or surgical"):
        add_lora(network, RANK, architecture="convnet", seed=0)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_a_recipe_takes_for_convolutional_is_what_cannot_be_adapted():
    from headstart.models.torchvision import family, list_models

    for architecture in {family(name): name for name in list_models()}.values():
        # The widths of a RegNet are computed from tensors, which on the meta device have no values.
        with nullcontext() if architecture.startswith("regnet") else torch.device("meta"):
            network = build_network(architecture, classes=2)
        recipe = {
            "name": "x",
            "source": {"candidates": [f"torchvision://{architecture}/DEFAULT"]},
            "target": {"data": {"uri": "x"}},
            "strategies": ["lora"],
        }
        with nullcontext() if architecture.startswith(ADAPTED) else pytest.raises(InputError, match="convolutional"):
            Recipe.of(recipe)
        with nullcontext() if architecture.startswith(ADAPTED) else pytest.raises(InputError, match="adds to linear"):
            add_lora(network, 1, architecture=architecture, seed=0)


def test_timms_vision_transformers_are_adapted_too():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=3, num_classes=0)
    network = Network([model], linear_head(12, 3)).eval()
    before = copy.deepcopy(network.state_dict())
    add_lora(network, 1, architecture="timm/vit", seed=0)
    merge_lora(trained(network))
    change = network.state_dict()["stages.0.blocks.0.attn.qkv.weight"] - before["stages.0.blocks.0.attn.qkv.weight"]
    assert change.abs().max() > 0
    assert all(torch.linalg.svdvals(matrix)[1] < 1e-5 for matrix in change.chunk(3))
