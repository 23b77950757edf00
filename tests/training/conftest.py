"""A few real digits, packed, and small networks to train on them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.training.plan import Plan, make_plan
from headstart.training.section import Training
from headstart_pipelines.demo import digits, write_folder

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture(scope="session")
def threes_and_eights(tmp_path_factory) -> Dataset:
    """Some 70 pictures of 3 and 8, 16 pixels a side."""
    root = tmp_path_factory.mktemp("threes-and-eights")
    images, labels = digits()
    chosen = np.flatnonzero(np.isin(labels, (3, 8)))[:70]
    write_folder(images[chosen], labels[chosen], root / "pictures")
    return prepare(Data.of({"uri": str(root / "pictures"), "size": 16, "split": SHARES}), root / "packed")


@pytest.fixture(scope="session")
def encoded_threes_and_eights(threes_and_eights, tmp_path_factory) -> Dataset:
    """The same pictures, kept as JPEG."""
    root = tmp_path_factory.mktemp("encoded-threes-and-eights")
    pictures = threes_and_eights.path.parent / "pictures"
    return prepare(Data.of({"uri": str(pictures), "size": 16, "split": SHARES, "store": "jpeg"}), root / "packed")


@pytest.fixture(scope="session")
def rare_and_common(tmp_path_factory) -> Dataset:
    """Two classes, one with eight times the pictures, between which there is no difference to learn."""
    root = tmp_path_factory.mktemp("rare-and-common")
    images, _ = digits()
    labels = np.where(np.arange(90) < 10, "rare", "common")
    write_folder(images[:90], labels, root / "pictures")
    return prepare(Data.of({"uri": str(root / "pictures"), "size": 16, "split": SHARES}), root / "packed")


@pytest.fixture
def untrained() -> Callable[[Dataset], ModelBundle]:
    """The same random convnet each time, with a head for the classes of a data set."""

    def make(dataset: Dataset) -> ModelBundle:
        torch.manual_seed(0)
        return ModelBundle(
            network=convnet(classes=len(dataset.classes), channels=1).eval(),
            architecture="convnet",
            modality="image",
            preprocessing=Preprocessing.fit(dataset.split("train").samples, size=16, channels=1),
            classes=dataset.classes,
            provenance={"role": "baseline", "head": "trained"},
        )

    return make


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """A plan without augmentation for a data set, with settings of the recipe's training section."""

    def make(dataset: Dataset, **settings: object) -> Plan:
        values = {"augmentation": "none", "epochs": 2, "batch_size": 8, **settings}
        return make_plan(Training.of(values), dataset.split("train").labels, pretrained=False)

    return make
