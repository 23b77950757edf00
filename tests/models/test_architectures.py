import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network, list_architectures
from headstart.models.bundle import ModelBundle


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
    ("name", "stages"), [("test_resnet", 5), ("test_vit", 1)], ids=["applied in order", "not applied in order"]
)
def test_a_timm_model_gives_the_features_that_timm_gives(name, stages):
    torch.manual_seed(0)
    network = build_network(f"timm/{name}", classes=3, channels=1).eval()
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=0, in_chans=1).eval()
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


def test_an_unknown_timm_model_is_answered_with_close_ones():
    with pytest.raises(InputError, match=r"timm has no model 'resnet1888'.*resnet"):
        build_network("timm/resnet1888", classes=2)
