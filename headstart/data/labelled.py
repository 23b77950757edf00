"""All labels that may be learned from: training and validation samples as one training split."""

from dataclasses import replace

import numpy as np

from headstart.data.dataset import Dataset, Samples, Split
from headstart.data.joined import JoinedSamples
from headstart.storage.digests import json_digest

# The data set's splits that make up a split here; the test split stays what it is.
_PARTS: dict[str, tuple[str, ...]] = {"train": ("train", "val"), "val": ()}


class LabelledDataset(Dataset):
    """A data set whose training split is its training and its validation split, and whose validation split is empty.

    `digests` stay those of the data set itself: they say which samples a model has learned from and which it has not.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset.path, dataset.manifest)
        self._dataset = dataset

    @property
    def counts(self) -> dict[str, int]:
        counts = self._dataset.counts
        return {**counts, **{name: sum(counts[part] for part in parts) for name, parts in _PARTS.items()}}

    def split(self, name: str) -> Split:
        if name not in _PARTS:
            return self._dataset.split(name)
        parts = [self._dataset.split(part) for part in _PARTS["train"]]
        kept = slice(None) if _PARTS[name] else slice(0)
        values = {key: np.concatenate([getattr(part, key) for part in parts])[kept] for key in ("labels", "ids", "paths")}
        return replace(parts[0], name=name, samples=self.samples(name), **values)

    def samples(self, split: str) -> Samples:
        if split not in _PARTS:
            return self._dataset.samples(split)
        if not _PARTS[split]:
            return np.empty((0, *self.shape), dtype=np.uint8)
        return JoinedSamples([self._dataset.samples(part) for part in _PARTS[split]])

    def split_digest(self, name: str) -> str:
        if name not in _PARTS:
            return self._dataset.split_digest(name)
        return f"sha256:{json_digest([self._dataset.split_digest(part) for part in _PARTS[name]])}"

    @property
    def digests(self) -> dict[str, str]:
        return self._dataset.digests
