"""Packed data sets: a directory of samples that are already validated and decoded."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headstart.data.chosen import ChosenSamples
from headstart.data.columns import as_array
from headstart.data.encoded import EncodedSamples
from headstart.data.joined import JoinedSamples
from headstart.data.ragged import RaggedSamples, offsets_of
from headstart.data.several import marks_of
from headstart.data.streamed import SUFFIX as BLOCKS
from headstart.data.streamed import StreamedArrays, StreamedEncoded, StreamedRagged
from headstart.errors import InputError
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from headstart.modalities import Modality, Shape
from headstart.modalities import modality as find_modality
from headstart.sections import Section
from headstart.storage.digests import file_digest, is_intact, json_digest
from headstart.storage.local import read_json, write_json
from headstart.storage.state import State

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")

STREAMED = "streamed"
"""The manifest's key of the state in which samples lie in blocks, and of the splits of which they do."""

_MANIFEST = "manifest.json"
_ROWS_AT_ONCE = 2**16

Samples = np.ndarray | EncodedSamples | RaggedSamples | StreamedArrays | JoinedSamples | ChosenSamples
"""(N, …): a read-only memory map; samples in a smaller form, which are decoded on access; samples of unequal length;
any of these in blocks that lie elsewhere; or several of these in a row.

`samples[rows]` is an array, of unequal lengths a list of arrays; `rows` is a position, a slice, positions in any order
or a mask. Read a few at a time: all of them may not fit into memory.
"""


@dataclass(frozen=True)
class Split:
    """One split of a packed data set; entry i of every array is sample i.

    `samples` is (N, …), stored as `store` says: raw, or in the form of a codec; `labels` int64 (N,), indices into the
    classes, or -1 for samples without labels, of a regression float64 (N,), of several labels int8 (N, K): 1 for each
    that a sample has, -1 for one that is not known; `ids` the SHA-256 (hex) of each sample's
    file; `paths` its path relative to the source folder; `groups` the name that it shares with the samples that it
    belongs to, "" where it is alone.
    """

    name: str
    store: str
    samples: Samples
    labels: np.ndarray
    ids: np.ndarray
    paths: np.ndarray
    groups: np.ndarray


class Dataset:
    """Reader of a packed data set's directory."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Open a packed data set.

        Raises:
            InputError: `path` holds no complete packed data set, or one of another format version or store.
        """
        path = Path(path)
        try:
            manifest = read_json(path / _MANIFEST)
            version = manifest["format_version"]
        except OSError:
            raise InputError(
                f"{path} is not a packed data set: it has no manifest.json; run `headstart prepare`."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}/manifest.json is damaged; prepare the data set again.") from None
        if version != FORMAT_VERSION:
            raise InputError(f"{path} has format version {version}, not {FORMAT_VERSION}; prepare the data set again.")
        dataset = cls(path, manifest)
        if dataset.store != "raw" and (dataset.kind.codec is None or dataset.store != dataset.kind.codec.name):
            raise InputError(
                f"{path} was made by a newer headstart: it keeps its samples as {dataset.store}. Install that one, or "
                "prepare the data set again."
            )
        for name in dataset.files:
            if not (path / name).is_file():
                raise InputError(f"{path} is incomplete: {name} is missing; prepare the data set again.")
        if "files" not in manifest:
            # Packed by a version that wrote no digests.
            _say_unverifiable(path.absolute())
        elif dataset._sums.get(_MANIFEST) != _digest_of(manifest) or not set(dataset.files) <= set(dataset._sums):
            raise InputError(f"{path / _MANIFEST} is damaged; prepare the data set again.")
        return dataset

    @property
    def digest(self) -> str:
        """Merkle digest "sha256:<hex>" over (path, sha256, label) of all samples, including unused ones."""
        return str(self.manifest["digest"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by index, of a regression `NUMBER`; empty if the samples have no labels."""
        return tuple(self.manifest["classes"])

    @property
    def task(self) -> str:
        """The name of what the labels tell: which class, which labels, or a number."""
        return str(self.manifest.get("task", SINGLE_LABEL))

    @property
    def modality(self) -> str:
        return str(self.manifest["modality"])

    @property
    def kind(self) -> Modality:
        """The modality's rules. InputError if this headstart has no such modality."""
        return find_modality(self.modality)

    @property
    def given(self) -> Section:
        """The modality's `input` that the samples were read by."""
        return self.kind.input.model_construct(**self.manifest_input)

    @property
    def manifest_input(self) -> dict[str, Any]:
        """The values of `given`."""
        found: dict[str, Any] | None = self.manifest.get("input")
        if found is None:
            # Packed before there were other kinds of data than pictures.
            size, _, channels = self.manifest["shape"]
            return {"size": size, "channels": channels}
        return found

    @property
    def store(self) -> str:
        """The form of the samples: raw, or the name of a codec."""
        return str(self.manifest.get("store", "raw"))

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that are read; others in the directory are for people."""
        return (_MANIFEST, "index.parquet", *(name for split in SPLITS for name in self.files_of(split)))

    def files_of(self, split: str) -> tuple[str, ...]:
        """The names of the files with a split's samples: one, and the offsets where samples are of unequal length."""
        name = self.samples_file(split)
        return (name, offsets_of(Path(name)).name) if self.is_ragged and not self.is_streamed(split) else (name,)

    def is_streamed(self, split: str) -> bool:
        """Whether a split's samples lie in blocks in the state, and are read from there."""
        return split in self.manifest.get(STREAMED, {}).get("splits", [])

    @property
    def blocks_digest(self) -> str | None:
        """A digest of the blocks in which the samples that are streamed lie; None if none are. The order in which a
        training reads them follows from it."""
        files = [self.manifest["files"][self.samples_file(split)] for split in SPLITS if self.is_streamed(split)]
        return json_digest(files) if files else None

    def samples_file(self, split: str) -> str:
        """Return the name of the file with a split's samples, or with the list of its blocks."""
        if self.is_streamed(split):
            return f"{split}{BLOCKS}"
        codec = self.kind.codec
        return f"{split}.npy" if self.store == "raw" or codec is None else f"{split}{codec.suffix}"

    @property
    def shape(self) -> Shape:
        """The shape of every sample; its first length is None where they differ in it."""
        return tuple(self.manifest["shape"])

    @property
    def is_ragged(self) -> bool:
        """Whether samples are of unequal length."""
        return None in self.shape

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The lengths that all samples have in common."""
        return tuple(length for length in self.shape if length is not None)

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples by split."""
        return {name: int(self.manifest["splits"][name]["samples"]) for name in SPLITS}

    def split(self, name: str) -> Split:
        """Read the split `train`, `val` or `test`.

        Raises:
            InputError: its files do not match the manifest.
        """
        rows = self._index_of(name)
        samples = self.samples(name)
        if len(rows) != len(samples):
            raise InputError(
                f"{self.path}/index.parquet lists {len(rows)} samples of {name} instead of {len(samples)}; prepare the "
                "data set again."
            )
        return Split(
            name=name,
            store=self.store,
            samples=samples,
            labels=label_values(rows["label"].to_pylist(), self.classes, self.task),
            ids=as_array(rows["id"]),
            paths=as_array(rows["path"]),
            groups=as_array(rows["group"]),
        )

    def parts(self, name: str) -> list[Split]:
        """The split as the parts that it is stored in, in order."""
        return [self.split(name)]

    def write_manifest(self) -> None:
        """Write the manifest next to the files that it describes, with the digests of all of them and its own."""
        digests = {name: file_digest(self.path / name) for name in self.files if name != _MANIFEST}
        digests[_MANIFEST] = _digest_of(self.manifest)
        self.manifest = {**self.manifest, "files": digests}
        write_json(self.path / _MANIFEST, self.manifest)

    @property
    def _sums(self) -> dict[str, str]:
        return dict(self.manifest["files"])

    def _verified(self, name: str) -> Path:
        """Return the path of a file after verifying its content.

        Raises:
            InputError: it is not the content that was packed.
        """
        path = self.path / name
        if "files" in self.manifest and not is_intact(path, self._sums[name]):
            raise InputError(f"{path} is damaged; prepare the data set again.")
        return path

    def split_digest(self, name: str) -> str:
        """Return the Merkle digest "sha256:<hex>" over (path, sha256, label) of the split's samples."""
        return str(self.manifest["splits"][name]["digest"])

    @property
    def digests(self) -> dict[str, str]:
        """The digests that a model trained here records, so that it is never evaluated on its training samples: that of
        the data, and that of the training split, which also depends on the seed and `labels_per_class`."""
        return {"data_digest": self.digest, "train_digest": self.split_digest("train")}

    def samples(self, split: str) -> Samples:
        """Return the samples of a split, without labels and paths.

        Raises:
            InputError: their file does not match the manifest, which has its digest.
        """
        path, count, kind = self._verified(self.samples_file(split)), self.counts[split], self.kind
        if self.is_streamed(split):
            return self._streamed(path, count)
        if self.is_ragged:
            self._verified(offsets_of(path).name)
            return RaggedSamples(path, count, self.fixed_shape, kind.dtype)
        expected = (count, *self.fixed_shape)
        if self.store != "raw" and kind.codec is not None:
            return EncodedSamples(path, expected, kind.codec)
        try:
            samples: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            raise InputError(f"{path} is damaged; prepare the data set again.") from None
        if samples.shape != expected or samples.dtype != np.dtype(kind.dtype):
            raise InputError(
                f"{path} holds {samples.dtype} {samples.shape} instead of {kind.dtype} {expected}; prepare the data "
                "set again."
            )
        return samples

    def _streamed(self, path: Path, count: int) -> Samples:
        state, kind = State.existing(str(self.manifest[STREAMED]["state"])), self.kind
        if self.is_ragged:
            return StreamedRagged(path, count, self.fixed_shape, kind.dtype, state)
        shape = (count, *self.fixed_shape)
        if self.store != "raw" and kind.codec is not None:
            return StreamedEncoded(path, shape, kind.codec, state)
        return StreamedArrays(path, shape, kind.dtype, state)

    def _index_of(self, split: str) -> pa.Table:
        """The index's rows of a split; the others are in memory a few at a time."""
        try:
            with pq.ParquetFile(self._verified("index.parquet")) as file:
                parts = [part.filter(pc.equal(part["split"], split)) for part in file.iter_batches(_ROWS_AT_ONCE)]
                return pa.Table.from_batches(parts, file.schema_arrow)
        except (OSError, pa.ArrowInvalid):
            raise InputError(f"{self.path}/index.parquet is damaged; prepare the data set again.") from None


def label_values(given: Sequence[str], classes: Sequence[str], task: str) -> np.ndarray:
    """Labels as data sets write them as the values of `Split.labels`. KeyError for a name that is not of `classes`."""
    if task == REGRESSION:
        return np.array(given, dtype=np.float64)
    if task == MULTI_LABEL:
        return marks_of(given, classes)
    number_of = {"": -1} | {label: number for number, label in enumerate(classes)}
    return np.array([number_of[label] for label in given], dtype=np.int64)


def _digest_of(manifest: dict[str, Any]) -> str:
    """Return the digest "sha256:<hex>" of the manifest without its digests."""
    content = {key: value for key, value in manifest.items() if key != "files"}
    return f"sha256:{json_digest(content)}"


@cache
def _say_unverifiable(path: Path) -> None:
    """Warn about missing digests, once per process."""
    log.warning(
        "%s was packed by an older headstart, without digests of its files, so that damage to them goes unnoticed. "
        "Prepare it again to have them.",
        path,
    )
