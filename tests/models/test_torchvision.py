import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.network import Network, adapt_channels
from headstart.models.torchvision import family, list_models, torchvision_network

# One small member of each family, and the side of a small image it reads.
MEMBERS = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vgg11_bn": 32,
    "vit_b_32": 64,
}


@pytest.fixture(scope="module", params=MEMBERS)
def member(request):
    """A family's member: its name, torchvision's own model in eval mode, and our network with the same weights."""
    name = request.param
    torch.manual_seed(0)
    options = {"aux_logits": True, "init_weights": False} if family(name).rescales_input else {}
    if name.startswith("vit"):
        options["image_size"] = MEMBERS[name]
    plain = models.get_model(name, num_classes=3, **options)
    if isinstance(plain, models.VisionTransformer):
        nn.init.normal_(plain.heads.head.weight)  # torchvision's is 0, which would make every logit equal
    calibrate(plain, images(name))
    return name, plain, torchvision_network(name, classes=3, state=plain.state_dict()).eval()


def calibrate(model: nn.Module, batch: Tensor) -> None:
    """Gives batch norm the statistics of `batch`: in eval mode, random weights alone would fade the signal to 0."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.momentum = None  # the average of all batches seen, here of one
        norm.train()
    if norms:
        with torch.inference_mode():
            model(batch)
    model.eval()


def images(name: str, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, MEMBERS[name], MEMBERS[name], generator=generator)


def test_stages_and_head_give_the_logits_of_torchvisions_model(member):
    name, plain, network = member
    with torch.inference_mode():
        features = network.features(images(name))
        logits = network(images(name))
        assert features.shape == (2, network.feature_dim)
        assert logits.shape == (2, 3)
        if family(name).pooled_width:
            assert torch.allclose(features, plain.features(images(name)).mean(dim=(2, 3)), rtol=1e-3, atol=1e-5)
        else:
            assert torch.allclose(logits, plain(images(name)), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(logits[0], logits[1], rtol=1e-2)


def test_freezing_holds_the_first_stages_to_the_bit_while_the_later_ones_learn(member):
    name, _, network = member
    network = copy.deepcopy(network)
    frozen = len(network.stages) // 2
    network.freeze(frozen)
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(0)
    network.train()
    nn.functional.cross_entropy(network(images(name)), torch.tensor([0, 2])).backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0).step()
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert {int(key.split(".")[1]) for key in moved if key.startswith("stages")} == set(
        range(frozen, len(network.stages))
    )
    assert "head.weight" in moved
    statistics = {key for key in before if key.endswith("running_mean") and int(key.split(".")[1]) >= frozen}
    assert statistics <= moved


def test_it_reads_grey_pictures_as_it_reads_them_in_rgb(member):
    name, _, network = member
    grey = images(name, channels=1)
    first_stage = network.stages[0]
    network = Network([copy.deepcopy(first_stage)], network.head).eval()
    adapt_channels(network, 1)
    with torch.inference_mode():
        assert torch.allclose(network.features(grey), first_stage(grey.expand(-1, 3, -1, -1)), atol=1e-4)


def test_every_classification_model_of_torchvision_belongs_to_a_family():
    assert "vgg16" in list_models()
    for name in list_models():
        assert family(name).trunk


def test_every_family_has_a_member_here():
    assert {id(family(name)) for name in MEMBERS} == {id(family(name)) for name in list_models()}


def test_stages_are_cut_where_the_resolution_falls():
    stages = build_network("resnet18", classes=2).stages
    assert [[type(module).__name__ for module in stage] for stage in stages] == [
        ["Conv2d", "BatchNorm2d", "ReLU"],
        ["MaxPool2d", "Sequential"],
        ["Sequential"],
        ["Sequential"],
        ["Sequential", "AdaptiveAvgPool2d", "Flatten"],
    ]


def test_vgg16_has_a_pooled_head_instead_of_its_fully_connected_layers():
    network = build_network("vgg16", classes=4)
    assert sum(parameter.numel() for parameter in network.head.parameters()) == 512 * 4 + 4
    assert sum(parameter.numel() for parameter in network.parameters()) < 15_000_000


def test_a_vision_transformer_reads_other_sizes_and_keeps_the_grid_of_its_weights():
    trained_at_96 = models.vit_b_32(num_classes=3, image_size=96)
    network = torchvision_network("vit_b_32", classes=3, state=trained_at_96.state_dict())
    assert network.stages[0][0].positions.shape == (1, 1 + 3 * 3, 768)
    again = build_network("vit_b_32", classes=3)
    again.load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 64, 128)
    with torch.inference_mode():
        assert torch.equal(again.eval()(image), network.eval()(image))


def test_weights_of_another_model_are_refused_by_name():
    state = models.resnet18(num_classes=3).state_dict()
    with pytest.raises(InputError, match=r"not those of torchvision's resnet34: .*layer1\.2"):
        torchvision_network("resnet34", classes=3, state=state)


def test_names_of_old_densenet_files_are_understood():
    state = models.densenet121(num_classes=3).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value for name, value in state.items()}
    assert old.keys() != state.keys()
    network = torchvision_network("densenet121", classes=3, state=old)
    assert all(any(torch.equal(value, other) for other in state.values()) for value in list(network.parameters())[:9])


def test_a_vision_transformers_positions_do_not_fix_the_batch_size_when_it_is_exported():
    embedding = build_network("vit_b_32", classes=3).stages[0].eval()
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(embedding, (torch.randn(2, 3, 64, 64),), dynamic_shapes=(batch,))
    pictures = torch.randn(3, 3, 64, 64)
    assert torch.allclose(program.module()(pictures), embedding(pictures), atol=1e-5)
