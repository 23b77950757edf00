"""Packed sequences, and a model that was trained on them."""

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.modalities.dna import MODALITY
from headstart.modalities.dna.section import DnaInput
from headstart.models.bundle import ModelBundle
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining
from tests.modalities.sequences.genes import CLASSES, gene, write

GIVEN = DnaInput(length=64)


def stored(text: str) -> np.ndarray:
    """The stored array of a sequence of DNA."""
    return MODALITY.decode(MODALITY.from_text(text), GIVEN).values


@pytest.fixture(scope="session")
def sequences() -> list[np.ndarray]:
    """Twelve stored sequences of unequal length."""
    return [stored(gene(CLASSES[seed % 2], seed)[: 40 + seed]) for seed in range(12)]


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("genes")
    data = Data(uri=str(write(root / "genes.fasta", 60)), input={"length": 64})
    return prepare(data, root / "packed", modality="dna")


@pytest.fixture(scope="session")
def trained(packed: Dataset) -> ModelBundle:
    section = Pretraining(architecture="convnet_sequence", epochs=8, batch_size=16, augmentation="none")
    return pretrain(section, packed, RunContext(state=None)).bundle
