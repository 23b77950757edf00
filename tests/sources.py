"""A source that read one part of the digits, and targets made of another part."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from headstart.training.trained import Trained
from headstart_pipelines.demo import digits, write_folder

WORDS = {3: "three", 5: "five", 8: "eight"}


def pack(images: np.ndarray, labels: np.ndarray, root: Path, **options: object) -> Dataset:
    """The pictures as a data set of 16 pixels a side, a half of them to train on."""
    write_folder(images, labels, root / "pictures")
    options = {"split": {"train": 0.5, "val": 0.25, "test": 0.25}, **options}
    return prepare(Data.of({"uri": str(root / "pictures"), "size": 16, **options}), root / "packed")


@pytest.fixture(scope="session")
def source_path(once: Callable[..., Path]) -> Path:
    """The bundle of a convnet that tells the ten digits apart."""

    def make(root: Path) -> None:
        images, labels = digits()
        dataset = pack(images[:700], labels[:700], root, split={"train": 0.7, "val": 0.2, "test": 0.1})
        section = Pretraining.of({"epochs": 6, "augmentation": "crop", "batch_size": None})
        trained = pretrain(section, dataset, RunContext())
        assert trained.validation > 0.8
        trained.bundle.save(root / "bundle")

    return once("digits-source", make) / "bundle"


@pytest.fixture(scope="session")
def loaded_source(source_path: Path) -> ModelBundle:
    return ModelBundle.load(source_path)


@pytest.fixture
def source(loaded_source: ModelBundle) -> ModelBundle:
    return copy.deepcopy(loaded_source)


@pytest.fixture(scope="session")
def built_transformer(renamed: Dataset) -> ModelBundle:
    torch.manual_seed(0)
    architecture = "timm/test_vit?img_size=32"
    network = build_network(architecture, classes=2, channels=1).eval()
    preprocessing = Preprocessing.fit(renamed.split("train").samples, size=32, channels=1)
    provenance = {"head": "trained"}
    return ModelBundle(network, architecture, "image", preprocessing, ("a", "b"), provenance=provenance)


@pytest.fixture
def transformer(built_transformer: ModelBundle) -> ModelBundle:
    """A vision transformer with random weights and a head of classes that no target has."""
    return copy.deepcopy(built_transformer)


@pytest.fixture
def relabelled(source_path: Path) -> ModelBundle:
    """The same source with its classes, and so the rows of its head, in another order."""
    source = ModelBundle.load(source_path)
    order = np.random.default_rng(0).permutation(len(source.classes))
    with torch.no_grad():
        source.network.head.weight.copy_(source.network.head.weight[order])
        source.network.head.bias.copy_(source.network.head.bias[order])
    return replace(source, classes=tuple(source.classes[index] for index in order))


@pytest.fixture(scope="session")
def known(tmp_path_factory) -> Dataset:
    """New pictures of three of the source's classes, under the source's names."""
    images, labels = digits()
    chosen = 1000 + np.flatnonzero(np.isin(labels[1000:], list(WORDS)))[:80]
    return pack(images[chosen], labels[chosen], tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="session")
def renamed(tmp_path_factory) -> Dataset:
    """The same pictures under names that the source does not know."""
    images, labels = digits()
    chosen = 1000 + np.flatnonzero(np.isin(labels[1000:], list(WORDS)))[:80]
    words = np.array([WORDS[label] for label in labels[chosen]])
    return pack(images[chosen], words, tmp_path_factory.mktemp("renamed"))


@pytest.fixture(scope="session")
def single(tmp_path_factory) -> Dataset:
    """One training sample a class, of two classes."""
    images, labels = digits()
    chosen = 1000 + np.flatnonzero(np.isin(labels[1000:], (0, 1)))[:40]
    words = np.where(labels[chosen] == 0, "nought", "one")
    return pack(images[chosen], words, tmp_path_factory.mktemp("single"), labels_per_class=1)


@pytest.fixture(scope="session")
def carry() -> Callable[..., Trained]:
    """`transfer` by a strategy given as in a recipe, with a small budget; `cross_validate` as in a run."""

    def run(
        source: ModelBundle,
        dataset: Dataset,
        strategy: object,
        *,
        seed: int = 0,
        refit: bool = True,
        cross_validate: bool = False,
        **training: object,
    ):
        # Pinned: what is measured elsewhere is not what these tests are about.
        values = {"precision": "fp32", "layout": "contiguous", "compile": "off", "augmentation": "none", **training}
        values = {"epochs": 2, "batch_size": 8, **values}
        section = Strategy.model_validate(strategy)
        context = RunContext(seed, refit=refit, cross_validate=cross_validate)
        return transfer(source, dataset, section, training=Training.of(values), context=context)

    return run
