"""Packed texts, and a model that was trained on them."""

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.modalities.text import MODALITY
from headstart.modalities.text.section import TextInput
from headstart.models.bundle import ModelBundle
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.section import Pretraining
from tests.modalities.text.corpus import TOPICS, text_of, write

GIVEN = TextInput(length=64)


def stored(text: str) -> np.ndarray:
    """The stored array of a text."""
    return MODALITY.decode(MODALITY.from_text(text), GIVEN).values


@pytest.fixture(scope="session")
def texts() -> list[np.ndarray]:
    """Twelve stored texts."""
    return [stored(text_of(TOPICS[seed % 3], seed)) for seed in range(12)]


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("topics")
    data = Data(uri=str(write(root / "texts", 20)), input={"length": 64})
    return prepare(data, root / "packed", modality="text")


@pytest.fixture(scope="session")
def trained(packed: Dataset) -> ModelBundle:
    section = Pretraining(architecture="transformer_tiny", epochs=8, batch_size=8)
    return pretrain(section, packed, RunContext(state=None)).bundle
