"""Packing: the samples that were taken in become the files of a data set, the manifest last."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.columns import Coded
from headstart.data.dataset import SPLITS, Dataset
from headstart.data.duplicates import Pair, copies
from headstart.data.encoded import write_encoded
from headstart.data.hashing import leaves, merkle_root
from headstart.data.listing import Refusal
from headstart.data.ragged import write_ragged
from headstart.data.report import Contents, render_report
from headstart.data.samples import Readable, hexadecimal
from headstart.data.several import counts_of
from headstart.data.shards import arrays_of
from headstart.data.shelf import Shelf
from headstart.data.splits import ASSIGNED, group_names
from headstart.data.streaming import write_in_blocks
from headstart.errors import InputError
from headstart.modalities import Modality, Shape
from headstart.storage.local import sync, write_text

RAW_LIMIT = 16 * 2**30
"""Bytes of arrays, of all splits together, above which samples are kept in their modality's smaller form where nobody
says how: what a machine can hold in memory, without which plain arrays are not read fast either."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Selection:
    """The split, or the refusal, of each file.

    `split_of` has the number in `ASSIGNED` of the split of each sample taken in, int8 (N,); `leaks` are those of
    `refused` that lay in two given splits; `near` are the pairs of samples that look the same.
    """

    samples: Readable
    split_of: np.ndarray
    refused: list[Refusal]
    leaks: list[Refusal]
    near: list[Pair]
    notes: list[str]

    def is_in(self, split: str) -> np.ndarray:
        """Whether each sample is in this split, bool (N,)."""
        return self.split_of == ASSIGNED.index(split)

    def labels_of(self, split: str) -> Coded[str]:
        """The label of each sample of a split."""
        return self.samples.files.labels.take(self.is_in(split))

    @cached_property
    def _leaves(self) -> np.ndarray:
        # A listing's files are sorted by path, and so are the leaves of a digest.
        files = self.samples.files
        return leaves(zip(files.paths, self.samples.ids, files.labels, strict=True))

    @property
    def digest(self) -> str:
        """The Merkle digest of all samples."""
        return merkle_root(self._leaves)

    def digest_of(self, split: str) -> str:
        """The Merkle digest of a split's samples."""
        return merkle_root(self._leaves[self.is_in(split)])


def choose_store(selection: Selection, shape: Shape, kind: Modality, asked: str) -> tuple[str, list[str]]:
    """The form that the samples are kept in, and notes for the report.

    Raises:
        InputError: the modality has no such form.
    """
    codec = kind.codec
    if asked != "auto":
        if asked != "raw" and (codec is None or asked != codec.name):
            raise InputError(f"store: {asked} does not keep {kind.noun}s; choose raw.")
        return asked, []
    itemsize, kept = np.dtype(kind.dtype).itemsize, selection.split_of < len(SPLITS)
    fixed = math.prod(side for side in shape if side is not None)
    size = itemsize * (_values(selection.samples.shapes.take(kept)) if None in shape else fixed * int(kept.sum()))
    if codec is None or size <= RAW_LIMIT:
        return "raw", []
    return codec.name, [
        f"Kept as {codec.name.upper()}: plain arrays would take {size / 2**30:,.0f} GiB, more than "
        f"{RAW_LIMIT / 2**30:,.0f}. Where there is memory for them, store: raw reads faster."
    ]


def describe(selection: Selection, classes: Sequence[str], several: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The manifest's entry of each split; `several` are the names of labels of which a sample may have several."""
    found = {}
    for name in ASSIGNED:
        labels = selection.labels_of(name)
        found[name] = {
            "samples": len(labels),
            "digest": selection.digest_of(name),
            "class_counts": counts_of(labels, several) if several else class_counts(labels, classes),
        }
    return found


def class_counts(labels: Coded[str], classes: Sequence[str]) -> list[int]:
    """The number of samples of each class, by the label of each."""
    counts = dict(zip(labels.values, labels.counts.tolist(), strict=True))
    return [counts.get(label, 0) for label in classes]


def write(packed: Dataset, selection: Selection, shelf: Shelf) -> None:
    """Fills the directory of a data set that so far is its manifest alone, or, where this says that samples are
    streamed, the state."""
    if packed.is_streamed("train"):
        order, stored = write_in_blocks(packed, selection, shelf)
    else:
        order, samples = np.arange(len(selection.samples)), selection.samples
        paths = [packed.path / packed.samples_file(name) for name in SPLITS]
        with shelf.brought(samples.shards.values):
            for name, path in zip(SPLITS, paths, strict=True):
                _pack(packed, samples, np.flatnonzero(selection.is_in(name)), path)
        stored = sum(path.stat().st_size for path in paths)
    _write_index(selection, order, packed.path / "index.parquet")
    lines = (
        json.dumps({"path": each.path, "sha256": each.sha256, "reason": each.reason}) for each in selection.refused
    )
    write_text(packed.path / "quarantine.jsonl", "".join(f"{line}\n" for line in lines))
    contents = Contents(
        train_samples=packed.samples("train"),
        # In the order in which the samples lie.
        train_labels=selection.samples.files.labels.take(order[selection.is_in("train")[order]]),
        facts=selection.samples.facts,
        stored_bytes=stored,
        refused=selection.refused,
        duplicates=[[sample.file.path for sample in group] for group in copies(selection.samples)],
        near=[(pair.one.file.path, pair.other.file.path) for pair in selection.near],
        leaks=selection.leaks,
    )
    write_text(packed.path / "report.html", render_report(packed.manifest, contents))
    # The manifest says that everything else is there, and what it holds.
    sync(packed.path)
    packed.write_manifest()


def _pack(packed: Dataset, samples: Readable, rows: np.ndarray, path: Path) -> None:
    kind, shape = packed.kind, packed.shape
    arrays = (kind.fitted(values, shape) for values in arrays_of(samples, rows, kind))
    if packed.store != "raw":
        assert kind.codec is not None  # noqa: S101 (choose_store asked)
        write_encoded(path, arrays, kind.codec)
        return
    if packed.is_ragged:
        write_ragged(path, arrays, [shape[0] for shape in samples.shapes.take(rows)], packed.fixed_shape, kind.dtype)
        return
    # Not through a memory map, whose pages would stay.
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(kind.dtype))
        header = {"descr": descr, "fortran_order": False, "shape": (len(rows), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for values in arrays:
            file.write(values.data)


def _write_index(selection: Selection, order: np.ndarray, path: Path) -> None:
    """Write a row for each sample, in this order of their positions, int (N,)."""
    schema = pa.schema([(name, pa.string()) for name in ("id", "path", "label", "split", "group")])
    samples, splits = selection.samples, Coded(ASSIGNED, selection.split_of)
    groups = group_names(samples, selection.near)
    # In parts, so that no large data set's index is in memory twice.
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(samples), _ROWS_AT_ONCE):
            rows = order[start : start + _ROWS_AT_ONCE]
            columns = {
                "id": hexadecimal(samples.digests[rows]),
                "path": list(samples.files.paths.take(rows)),
                "label": list(samples.files.labels.take(rows)),
                "split": list(splits.take(rows)),
                "group": list(groups.take(rows)),
            }
            writer.write_table(pa.table(columns, schema))


def _values(shapes: Coded[tuple[int, ...]]) -> int:
    """The number of values in arrays of these shapes."""
    return int(np.dot(shapes.counts, [math.prod(shape) for shape in shapes.values]))
