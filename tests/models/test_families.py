"""Stages of every family: they compose to the forward pass, and freezing, layer decay and LoRA work on them."""

import copy
import json
from urllib.parse import quote

import pytest
import timm
import torch
from timm.models import list_modules
from torch import nn
from torchvision import models

from headstart.errors import InputError
from headstart.models import timm as our_timm
from headstart.models.architectures import build_network
from headstart.models.network import Network
from headstart.models.timm import timm_model
from headstart.models.transformers import as_network, examples, logits_of, transformers_model
from headstart.strategies.low_rank import add_lora, merge_lora

TRANSFORMER = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
CONVOLUTIONAL = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 2, 1]}
WINDOWED = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
DINO = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}

TRANSFORMERS = {
    "vit": (TRANSFORMER, 4),
    "deit": (TRANSFORMER, 4),
    "beit": (TRANSFORMER, 4),
    "dinov2": (DINO, 4),
    "swin": (WINDOWED, 3),
    "swinv2": (WINDOWED, 3),
    "convnext": (CONVOLUTIONAL, 3),
    "convnextv2": (CONVOLUTIONAL, 3),
    "resnet": ({**CONVOLUTIONAL, "embedding_size": 8}, 4),
    "clip": ({"vision_config": TRANSFORMER}, 4),
    "siglip": ({"vision_config": TRANSFORMER}, 4),
    "segformer": ({**CONVOLUTIONAL, "num_attention_heads": [1, 1, 2, 2]}, 3),
}
"""Tiny members of the most used encoder families of transformers, and how many stages each has."""

SMALL = (
    "convnext_atto", "deit_tiny_patch16_224", "edgenext_xx_small", "efficientvit_b0", "fastvit_t8", "ghostnet_050",
    "hardcorenas_a", "mobilenetv3_small_050", "mobilevit_xxs", "pit_ti_224", "poolformer_s12", "regnetx_002",
    "resnest14d", "shvit_s1", "starnet_s1", "tinynet_e", "vit_tiny_patch16_224", "xcit_nano_12_p16_224",
)  # fmt: skip
"""A small model of each of many families of timm."""


def setting_name(kind: str) -> str:
    settings = TRANSFORMERS[kind][0]
    return f"{kind}?" + "&".join(f"{key}={quote(json.dumps(value))}" for key, value in settings.items())


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_stages_of_a_family_of_transformers_compose_to_its_forward_pass(kind):
    torch.manual_seed(0)
    model = transformers_model(setting_name(kind), classes=5, channels=3).eval()
    inputs = examples(model, 3)[-1](3)
    with torch.inference_mode():
        expected = logits_of(model, inputs)

    network = as_network(model, classes=5, channels=3, has_head=True).eval()

    with torch.inference_mode():
        assert torch.allclose(network(inputs), expected, atol=1e-5)
    assert len(network.stages) == TRANSFORMERS[kind][1]
    works_by_stages(network, inputs)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet", "test_byobnet"])
def test_stages_of_a_model_of_timm_compose_to_its_forward_pass(name):
    is_composed(name, timms_stages(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_stages_of_small_models_of_other_families_of_timm_compose_to_their_forward_pass(name):
    is_composed(name, timms_stages(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_models_of_torchvision_work_by_stages(name):
    every_part_works(name)


@pytest.mark.families
@pytest.mark.parametrize("module", list_modules())
def test_stages_of_every_family_of_timm_compose_to_its_forward_pass(module):
    name = min(timm.list_models(module=module), key=lambda each: (each.count("large"), len(each), each))
    is_composed(name, timms_stages(name))


@pytest.mark.families
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_model_of_torchvision_works_by_stages(name):
    every_part_works(name)


def every_part_works(name: str) -> None:
    torch.manual_seed(0)
    side = 224 if "vit" in name or "maxvit" in name else 128
    works_by_stages(build_network(name, classes=3).eval(), torch.rand(2, 3, side, side))


def test_settings_that_a_type_does_not_have_are_refused():
    with pytest.raises(InputError, match="transformers/vit has no setting depth"):
        build_network("transformers/vit?depth=3", classes=2)


def timms_stages(name: str) -> tuple[torch.Tensor, torch.Tensor, Network]:
    """Random images, the logits of timm's own model (its features where it has no linear head), and its network."""
    torch.manual_seed(0)
    model = timm_model(name, classes=5, channels=3).eval()
    inputs = our_timm.examples(model, 3)[-1](2)
    with torch.inference_mode():
        logits = model(inputs)
        network = our_timm.as_network(model, classes=5, channels=3).eval()
        return inputs, logits, network


def is_composed(name: str, found: tuple[torch.Tensor, torch.Tensor, Network]) -> None:
    inputs, logits, network = found
    torch.manual_seed(0)
    model = timm_model(name, classes=5, channels=3).eval()
    with torch.inference_mode():
        if not torch.allclose(network(inputs), logits, atol=1e-4, rtol=1e-4):
            # Its own classifier is no linear layer, so that the head is new.
            model.reset_classifier(0)
            assert torch.allclose(network.features(inputs), model(inputs), atol=1e-4, rtol=1e-4)
    works_by_stages(network, inputs)


def works_by_stages(network: Network, inputs: torch.Tensor) -> None:
    """Frozen stages stay to the bit while others learn; a weight is in one stage; LoRA starts as the network."""
    network = copy.deepcopy(network)
    weights = [{id(parameter) for parameter in stage.parameters()} for stage in network.stages]
    assert sum(map(len, weights)) == len(set().union(*weights))
    network.freeze(len(network.stages) // 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    nn.functional.cross_entropy(network(inputs), torch.zeros(len(inputs), dtype=torch.long)).backward()
    optimizer.step()
    after = network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = tuple(f"stages.{position}." for position in range(len(network.stages) // 2))
    assert not [name for name in moved if name.startswith(frozen)]
    assert any(name.startswith("head.") for name in moved)
    network.eval()
    network.load_state_dict(before)
    lora_starts_as_the_network(network, inputs)


def lora_starts_as_the_network(network: Network, inputs: torch.Tensor) -> None:
    with torch.no_grad():
        expected = network(inputs)
        try:
            add_lora(network, 2, architecture="this", seed=0)
        except InputError:
            # Most of its weights are in convolutions.
            return
        assert torch.allclose(network(inputs), expected, atol=1e-5)
        merge_lora(network)
        assert torch.allclose(network(inputs), expected, atol=1e-5)
