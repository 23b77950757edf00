"""Data sets in Python: `prepare`, as `headstart prepare` calls it."""

from pathlib import Path
from typing import Any

from headstart.data import prepare as packing
from headstart.data.dataset import Dataset
from headstart.data.section import Data
from headstart.modalities import modality as find_modality


def prepare(
    data: str | Path, destination: str | Path, *, modality: str = "image", seed: int = 0, **settings: Any
) -> Dataset:
    """Verify, split, pack and report one data set, and return it; `destination` holds a report.html.

    Args:
        data: the address of samples: a folder with one folder a class, an archive, a table, `s3://…`, ….
        destination: the directory that is written, whole or not at all.
        modality: what the samples are.
        seed: decides the splits.
        settings: further keys of a recipe's `data`: `labels_per_class`, `split`, `task`, `input`, `size`,
            `duplicates`, `max_refused`, `store`, `stream`, ….

    Raises:
        InputError: the data, a setting or a class is unusable; nothing is written. Single unreadable files go to
            quarantine.jsonl.
    """
    section = Data.of({**settings, "uri": str(data)})
    # What no architecture is named for is kept as large as most of them read it.
    read = find_modality(modality).settled(section.input, "")
    section = section.model_copy(update={"input": read})
    return packing.prepare(section, Path(destination), modality=modality, labels="optional", seed=seed)
