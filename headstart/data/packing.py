"""Packing: the samples that were taken in become the files of a data set, the manifest last."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.dataset import SPLITS, Dataset, Store
from headstart.data.duplicates import Pair, copies
from headstart.data.encoded import write_encoded
from headstart.data.hashing import merkle_digest
from headstart.data.listing import Refusal
from headstart.data.report import Contents, render_report
from headstart.data.samples import Sample
from headstart.data.shards import pixels_of
from headstart.storage.local import sync, write_text

RAW_LIMIT = 16 * 2**30
"""Bytes of pixels, of all splits together, above which samples are kept as JPEG where nobody says how: what a machine
can hold in memory, without which plain pixels are not read fast either."""

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


def choose_store(
    selection: Selection, shape: tuple[int, int, int], asked: Literal["auto"] | Store
) -> tuple[Store, list[str]]:
    """The form that the samples are kept in, and notes for the report."""
    if asked != "auto":
        return asked, []
    size = math.prod(shape) * sum(split in SPLITS for split in selection.split_of.values())
    if size <= RAW_LIMIT:
        return "raw", []
    return "jpeg", [
        f"Kept as JPEG: plain pixels would take {size / 2**30:,.0f} GiB, more than {RAW_LIMIT / 2**30:,.0f}. Where "
        "there is memory for them, store: raw reads faster."
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
        _pack(selection.of(name), packed.shape, packed.store, packed.path / packed.samples_file(name))
    _write_index(selection, packed.path / "index.parquet")
    lines = (
        json.dumps({"path": each.path, "sha256": each.sha256, "reason": each.reason}) for each in selection.refused
    )
    write_text(packed.path / "quarantine.jsonl", "".join(f"{line}\n" for line in lines))
    contents = Contents(
        train_samples=packed.samples("train"),
        train_labels=[sample.file.label for sample in selection.of("train")],
        dimensions=[(sample.width, sample.height) for sample in selection.samples],
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


def _pack(samples: Sequence[Sample], shape: tuple[int, int, int], store: Store, path: Path) -> None:
    pictures = _pictures(samples, shape)
    if store == "jpeg":
        write_encoded(path, pictures)
        return
    # Not through a memory map, whose pages would stay.
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(samples), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in pictures:
            file.write(pixels.data)


def _pictures(samples: Iterable[Sample], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    for sample in samples:
        pixels = pixels_of(sample, shape[0], last=True)
        # A grey sample among coloured ones broadcasts over the channels.
        yield pixels if pixels.shape == shape else np.ascontiguousarray(np.broadcast_to(pixels, shape))


def _write_index(selection: Selection, path: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "path", "label", "split", "group")])
    # In parts, so that no large data set's index is in memory twice.
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(selection.samples), _ROWS_AT_ONCE):
            samples = selection.samples[start : start + _ROWS_AT_ONCE]
            columns = {
                "id": [sample.sha256 for sample in samples],
                "path": [sample.file.path for sample in samples],
                "label": [sample.file.label for sample in samples],
                "split": [selection.split_of[sample.file.path] for sample in samples],
                "group": [sample.file.group for sample in samples],
            }
            writer.write_table(pa.table(columns, schema))
