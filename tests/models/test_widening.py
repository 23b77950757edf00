from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from headstart.data.dataset import Dataset
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.modalities.image.section import ImageInput
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.models.widening import for_samples
from headstart.strategies.baseline import BASELINES, Like
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart_pipelines.demo import digits
from tests.sources import pack

SETTINGS = "hidden_size=32&num_hidden_layers=2&num_attention_heads=2&intermediate_size=64&image_size=16&patch_size=4"
COLOUR, GREY = ImageInput(size=16, channels=3), ImageInput(size=16, channels=1)
# As light as one another to ITU-R BT.601, and so the same grey.
RED, GREEN = (196, 0, 0), (0, 100, 0)


def grey_source(architecture: str = "convnet") -> ModelBundle:
    torch.manual_seed(0)
    network = build_network(architecture, classes=4, channels=1).eval()
    return ModelBundle(network, architecture, "image", Preprocessing(16, 1, (0.4,), (0.3,)), ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def tinted(once: Callable[..., Path]) -> Dataset:
    """Digits in red and in green, which their colour alone tells apart."""

    def make(root: Path) -> None:
        images, _ = digits()
        labels = np.arange(160) % 2
        colours = np.array([RED, GREEN])[labels]
        coloured = images[:160, :, :, None].astype(float) / images.max() * colours[:, None, None, :]
        pack(coloured.round().astype(np.uint8), labels, root)

    return Dataset.open(once("tinted-digits", make) / "packed")


@pytest.mark.parametrize("architecture", ["convnet", "shufflenet_v2_x0_5", f"transformers/vit?{SETTINGS}"])
def test_a_grey_network_reads_colour_and_answers_as_before(architecture, tmp_path):
    source = grey_source(architecture)
    wide = for_samples(source, COLOUR)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)

    assert wide.preprocessing.channels == 3
    assert np.allclose(wide.predict_logits(pictures), source.predict_logits(pictures), atol=1e-4)
    assert source.preprocessing.channels == 1
    wide.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle")
    assert np.array_equal(again.predict_logits(pictures), wide.predict_logits(pictures))


def test_a_source_whose_configuration_says_grey_is_built_for_colour(tmp_path):
    wide = for_samples(grey_source(f"transformers/vit?{SETTINGS}&num_channels=1"), COLOUR)
    wide.save(tmp_path / "bundle")
    assert ModelBundle.load(tmp_path / "bundle").preprocessing.channels == 3


@pytest.mark.parametrize("given", [GREY, ImageInput(size=16)])
def test_of_grey_samples_a_grey_source_stays_as_it_is(given):
    source = grey_source()
    assert for_samples(source, given).network is source.network


def test_a_network_that_begins_otherwise_keeps_its_reading():
    beginning = nn.Sequential(nn.Flatten(), nn.Linear(256, 16 * 16), nn.Unflatten(1, (1, 16, 16)), nn.Conv2d(1, 8, 3))
    source = replace(grey_source(), network=Network([beginning], nn.Linear(8, 4)).eval())
    found = for_samples(source, COLOUR)
    assert found.network is source.network
    assert found.preprocessing.channels == 1


@pytest.mark.parametrize("strategy", ["full", "surgical", "wise_ft"])
def test_strategies_of_a_grey_source_learn_what_colour_alone_tells(strategy, source, tinted, carry):
    trained = carry(source, tinted, strategy, epochs=6, cross_validate=True)
    assert trained.bundle.preprocessing.channels == 3
    assert trained.validation > 0.9


def test_what_trains_nothing_of_a_grey_source_sees_no_colour(source, tinted, carry):
    trained = carry(source, tinted, "linear_probe")
    assert trained.validation < 0.8


def test_scratch_reads_as_the_strategies_do(source, tinted):
    trained = BASELINES["scratch"].fit(Like.of(source), tinted, Training(epochs=6), RunContext())
    assert trained.bundle.preprocessing.channels == 3
    assert trained.validation > 0.9
