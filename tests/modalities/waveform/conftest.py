"""Packed recordings of two kinds of sound."""

from pathlib import Path

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from tests.modalities.audio.sounds import RATE, speech, write


def lay_out(root: Path, count: int, *, seed: int = 0) -> Path:
    """Class folders `high` and `low` of so many recordings of 0.3 to 0.8 seconds each: what has syllables, and in
    it a tone of one of two ranges of pitch."""
    generator = np.random.default_rng(seed)
    for label, hertz in (("high", 2500.0), ("low", 700.0)):
        for number in range(count):
            seconds = generator.uniform(0.3, 0.8)
            sound = speech(seed + 1000 * number + int(hertz), seconds)
            time = np.arange(len(sound)) / RATE
            pitch = hertz * generator.uniform(0.8, 1.25)
            write(root / label / f"{number:02}.wav", 0.4 * sound + 0.2 * np.sin(2 * np.pi * pitch * time))
    return root


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("pitches")
    data = Data(uri=str(lay_out(root / "sounds", 24)), input={"seconds": 0.6})
    return prepare(data, root / "packed", modality="waveform")
