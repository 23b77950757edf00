"""Data sets whose samples lie in blocks in a state."""

from pathlib import Path

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.environment import environment
from headstart.storage.state import STATE_VARIABLE


def streamed(packed: Dataset, destination: Path, state: str) -> Dataset:
    """The data of another data set, prepared alike, with the samples in blocks in `state`."""
    settings = {name: value for name, value in packed.manifest["settings"].items() if name != "seed"}
    given = {"uri": packed.manifest["source"]["uri"], "input": packed.manifest["input"], "store": packed.store}
    with environment({STATE_VARIABLE: state}):
        return prepare(Data.of({**given, **settings, "stream": "always"}), destination)
