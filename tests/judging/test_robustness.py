import numpy as np
import pytest
import torch

from headstart.judging.robustness import SEVERITIES, robustness
from headstart.modalities import modality
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle


def test_every_corruption_is_judged_at_every_severity_on_the_same_items():
    torch.manual_seed(0)
    samples = np.random.default_rng(0).integers(0, 256, (10, 24, 24, 1), dtype=np.uint8)
    bundle = ModelBundle(
        network=convnet(classes=2, channels=1).eval(),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(samples, size=24, channels=1),
        classes=("a", "b"),
    )
    labels = bundle.predict_logits(samples).argmax(axis=1)
    found = robustness(bundle, samples, labels)
    assert (found.items, found.clean.value) == (10, 1.0)
    assert [row.corruption for row in found.corrupted] == [
        "gaussian noise", "blur", "brightness", "contrast", "rotation", "pixelation", "JPEG"
    ]  # fmt: skip
    corruptions = {each.title: each for each in modality("image").corruptions}
    for row in found.corrupted:
        for severity, accuracy in zip(SEVERITIES, row.values, strict=True):
            predicted = bundle.predict_logits(corruptions[row.corruption].apply(samples, severity)).argmax(axis=1)
            assert accuracy.value == np.mean(predicted == labels)
            assert accuracy.low <= accuracy.value <= accuracy.high
    values = [accuracy.value for row in found.corrupted for accuracy in row.values]
    assert found.mean == pytest.approx(np.mean(values)) == pytest.approx(np.mean(found.shares))
    assert len(found.shares) == 10
