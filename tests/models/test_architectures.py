import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from torch import nn

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network, list_architectures
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.models.stages import cut_into_stages


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(InputError, match=r"unknown architecture 'resnet81'.*resnet18"):
        build_network("resnet81", classes=2)


def test_our_network_and_torchvisions_are_listed():
    assert {"convnet", "vgg16", "vit_b_16"} <= set(list_architectures())


def test_building_our_own_network_does_not_import_torchvision():
    code = (
        "import sys; from headstart.models.architectures import build_network; build_network('convnet', classes=2);"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("architecture", ["convnet", "mobilenet_v3_small"])
def test_a_network_is_built_for_grey_pictures_and_given_classes(architecture):
    network = build_network(architecture, classes=4, channels=1).eval()
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "stages"), [("test_resnet", 6), ("test_vit", 7)], ids=["where the resolution falls", "at each block"]
)
def test_a_timm_model_gives_the_features_that_timm_gives(name, stages):
    torch.manual_seed(0)
    network = build_network(f"timm/{name}", classes=3, channels=1).eval()
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=3, in_chans=1).eval()
    plain.reset_classifier(0)
    image = torch.randn(2, 1, *plain.pretrained_cfg["input_size"][-2:])
    with torch.inference_mode():
        assert torch.allclose(network.features(image), plain(image), atol=1e-5)
        assert network(image).shape == (2, 3)
    assert len(network.stages) == stages


def test_a_timm_model_travels_in_a_bundle(tmp_path):
    network = build_network("timm/test_vit", classes=2)
    preprocessing = Preprocessing(size=160, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    bundle = ModelBundle(network, "timm/test_vit", "image", preprocessing, ("a", "b"))
    bundle.save(tmp_path / "bundle")
    samples = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    loaded = ModelBundle.load(tmp_path / "bundle")
    assert np.allclose(loaded.predict_logits(samples), bundle.predict_logits(samples))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_timm_bundle_whose_stages_were_cut_in_another_way_is_read(name, tmp_path):
    """Earlier versions cut models at their children in order, and had those that do more in one stage."""
    model = timm.create_model(name, num_classes=0).eval()
    parts = [part for child in model.children() for part in (child if isinstance(child, nn.Sequential) else [child])]
    stages = cut_into_stages(parts) if name == "test_resnet" else [model]
    size = model.pretrained_cfg["input_size"][-1]
    former = Network(stages, nn.Linear(model.num_features, 2)).eval()
    preprocessing = Preprocessing(size=size, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    ModelBundle(former, f"timm/{name}", "image", preprocessing, ("a", "b")).save(tmp_path / "bundle")

    read = ModelBundle.load(tmp_path / "bundle").network

    image = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert torch.allclose(read(image), former(image), atol=1e-5)


def test_an_unknown_timm_model_is_answered_with_close_ones():
    with pytest.raises(InputError, match=r"timm has no model 'resnet1888'.*resnet"):
        build_network("timm/resnet1888", classes=2)
