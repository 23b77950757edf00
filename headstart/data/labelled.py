"""All labels that may be learned from: training and validation samples as one training split."""

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

    def parts(self, name: str) -> list[Split]:
        stored = _PARTS.get(name, (name,))
        return [self._dataset.split(part) for part in stored if self._dataset.counts[part]]

    def split(self, name: str) -> Split:
        if name not in _PARTS:
            return self._dataset.split(name)
        train, val = (self._dataset.split(part) for part in _PARTS["train"])
        kept = slice(None) if _PARTS[name] else slice(0)
        return Split(
            name=name,
            store=self.store,
            samples=self.samples(name),
            labels=np.concatenate([train.labels, val.labels])[kept],
            ids=np.concatenate([train.ids, val.ids])[kept],
            paths=np.concatenate([train.paths, val.paths])[kept],
            groups=np.concatenate([train.groups, val.groups])[kept],
        )

    def samples(self, split: str) -> Samples:
        if split not in _PARTS:
            return self._dataset.samples(split)
        if not _PARTS[split]:
            return np.empty((0, *(length or 0 for length in self.shape)), dtype=self.kind.dtype)
        return JoinedSamples([self._dataset.samples(part) for part in _PARTS[split]])

    def split_digest(self, name: str) -> str:
        if name not in _PARTS:
            return self._dataset.split_digest(name)
        return f"sha256:{json_digest([self._dataset.split_digest(part) for part in _PARTS[name]])}"

    @property
    def digests(self) -> dict[str, str]:
        return self._dataset.digests
