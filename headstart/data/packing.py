"""Packing: the samples that were taken in become the files of a data set, the manifest last."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.dataset import SPLITS, Dataset
from headstart.data.duplicates import Pair, copies
from headstart.data.encoded import write_encoded
from headstart.data.hashing import merkle_digest
from headstart.data.listing import Refusal
from headstart.data.ragged import write_ragged
from headstart.data.report import Contents, render_report
from headstart.data.samples import Sample
from headstart.data.shards import array_of
from headstart.data.splits import group_names
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

    `split_of` maps the path of every sample taken in to its split or UNUSED; `leaks` are those of `refused` that lay in
    two given splits; `near` are the pairs of samples that look the same.
    """

    samples: list[Sample]
    split_of: dict[str, str]
    refused: list[Refusal]
    leaks: list[Refusal]
    near: list[Pair]
    notes: list[str]

    def of(self, split: str) -> list[Sample]:
        return [sample for sample in self.samples if self.split_of[sample.file.path] == split]

    @property
    def kept(self) -> list[Sample]:
        """The samples of all splits, without the unused ones."""
        return [sample for sample in self.samples if self.split_of[sample.file.path] in SPLITS]


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
    itemsize, kept = np.dtype(kind.dtype).itemsize, selection.kept
    fixed = math.prod(side for side in shape if side is not None)
    size = itemsize * (sum(math.prod(sample.shape) for sample in kept) if None in shape else fixed * len(kept))
    if codec is None or size <= RAW_LIMIT:
        return "raw", []
    return codec.name, [
        f"Kept as {codec.name.upper()}: plain arrays would take {size / 2**30:,.0f} GiB, more than "
        f"{RAW_LIMIT / 2**30:,.0f}. Where there is memory for them, store: raw reads faster."
    ]


def describe(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, Any]:
    """The manifest's entry of a split."""
    by_class = Counter(sample.file.label for sample in samples)
    return {
        "samples": len(samples),
        "digest": digest_of(samples),
        "class_counts": [by_class[label] for label in classes],
    }


def digest_of(samples: Iterable[Sample]) -> str:
    """The Merkle digest of samples."""
    return merkle_digest((sample.file.path, sample.sha256, sample.file.label) for sample in samples)


def write(packed: Dataset, selection: Selection) -> None:
    """Fills the directory of a data set that so far is its manifest alone."""
    for name in SPLITS:
        _pack(packed, selection.of(name), packed.path / packed.samples_file(name))
    _write_index(selection, packed.path / "index.parquet")
    lines = (
        json.dumps({"path": each.path, "sha256": each.sha256, "reason": each.reason}) for each in selection.refused
    )
    write_text(packed.path / "quarantine.jsonl", "".join(f"{line}\n" for line in lines))
    contents = Contents(
        train_samples=packed.samples("train"),
        train_labels=[sample.file.label for sample in selection.of("train")],
        facts=[sample.facts for sample in selection.samples],
        stored_bytes=sum((packed.path / packed.samples_file(name)).stat().st_size for name in SPLITS),
        refused=selection.refused,
        duplicates=[[sample.file.path for sample in group] for group in copies(selection.samples)],
        near=[(pair.one.file.path, pair.other.file.path) for pair in selection.near],
        leaks=selection.leaks,
    )
    write_text(packed.path / "report.html", render_report(packed.manifest, contents))
    # The manifest says that everything else is there, and what it holds.
    sync(packed.path)
    packed.write_manifest()


def _pack(packed: Dataset, samples: Sequence[Sample], path: Path) -> None:
    kind, shape = packed.kind, packed.shape
    arrays = (kind.fitted(array_of(sample, kind, last=True), shape) for sample in samples)
    if packed.store != "raw":
        assert kind.codec is not None  # noqa: S101 (choose_store asked)
        write_encoded(path, arrays, kind.codec)
        return
    if packed.is_ragged:
        write_ragged(path, arrays, [sample.shape[0] for sample in samples], packed.fixed_shape, kind.dtype)
        return
    # Not through a memory map, whose pages would stay.
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(kind.dtype))
        header = {"descr": descr, "fortran_order": False, "shape": (len(samples), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for values in arrays:
            file.write(values.data)


def _write_index(selection: Selection, path: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "path", "label", "split", "group")])
    group_of = group_names(selection.samples, selection.near)
    # In parts, so that no large data set's index is in memory twice.
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(selection.samples), _ROWS_AT_ONCE):
            samples = selection.samples[start : start + _ROWS_AT_ONCE]
            columns = {
                "id": [sample.sha256 for sample in samples],
                "path": [sample.file.path for sample in samples],
                "label": [sample.file.label for sample in samples],
                "split": [selection.split_of[sample.file.path] for sample in samples],
                "group": [group_of.get(sample.file.path) for sample in samples],
            }
            writer.write_table(pa.table(columns, schema))
