"""What the step costs that joins the parts of a large data set, in seconds and in memory.

    OMP_NUM_THREADS=1 python -m benchmarks.large

A table of 2,000,000 small pictures in 1000 classes is written once, and read once as its parts are (`prepare_part`, 3.5
minutes); both are kept below --cache, where a run that was stopped goes on. Then `prepare` joins what was read, each
time in a process of its own: it lists the table, finds the shards, looks for copies, contradictions and leaks, carves a
validation split out of the given train split, computes the digests, packs and reports. One picture of a hundred is a
copy, one of 500 of them of another class and one of 250 of another split; one of ten has a group. A tenth of the rows
tells how memory grows. So small pictures are not compared by their looks: that is measured alone, on as many
fingerprints of smooth noise. Exit status 1 where a bound is missed. Needs Linux and 4 GB below --cache.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import peak_of_this_process
from headstart.data.prepare import prepare, prepare_part
from headstart.data.samples import Marks
from headstart.data.section import Data
from headstart.storage.local import write_json
from headstart.storage.state import State

ROWS = 2_000_000
CLASSES = 1000
SIDE, COARSE = 8, 8
MAX_SECONDS = 60.0
MAX_BYTES = 2**30
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Cost:
    """The cost of work on `rows` samples: seconds on the clock and of the processor, and the most bytes that the
    process had in memory."""

    rows: int
    seconds: float
    processor: float
    memory: int

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor:.1f} s of the processor), {self.memory / 2**20:,.0f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--cache", type=Path, default=Path("build/large"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/large.json"))
    options = parser.parse_args()
    joined, compared = [], []
    for rows in (options.rows // 10, options.rows):
        place = options.cache / str(rows)
        place.mkdir(parents=True, exist_ok=True)
        write_table(place / "rows.parquet", rows)
        read(place)
        joined.append(_alone(join, place, rows))
        compared.append(_alone(compare, place, rows))
        print(f"{rows:>10,} rows: joined in {joined[-1]}; looks compared in {compared[-1]}", flush=True)
    per_row = (joined[1].memory - joined[0].memory) / (joined[1].rows - joined[0].rows)
    kept = joined[1].seconds <= MAX_SECONDS and joined[1].memory <= MAX_BYTES
    # It imports torch, which is no part of what is measured.
    from benchmarks.machine import machine

    verdict = "kept" if kept else "MISSED"
    print(f"{per_row:.0f} bytes a row. Bounds, {MAX_SECONDS:.0f} s and {MAX_BYTES / 2**20:,.0f} MiB: {verdict}")
    content = {"joined": [*map(asdict, joined)], "compared": [*map(asdict, compared)], "bytes_per_row": per_row}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"machine": machine(1, ("numpy", "pyarrow", "scipy")), **content})
    return int(not kept)


def write_table(path: Path, rows: int) -> None:
    """Write the table, unless it is there."""
    if path.exists():
        return
    schema = pa.schema([("image", pa.binary()), *((name, pa.string()) for name in ("label", "group", "split"))])
    draft = path.with_suffix(".draft")
    with pq.ParquetWriter(draft, schema) as writer:
        for columns in _columns(rows):
            writer.write_table(pa.table(columns, schema))
    draft.rename(path)


def read(place: Path) -> None:
    """Read the table as a step does that has all of it as its part; what was read before is not read again."""
    prepare_part(_data(place), State(str(place / "state")), part=0, parts=1)


def join(place: Path, rows: int) -> Cost:
    """Join what was read."""
    state = State(str(place / "state"))
    start, processor = time.perf_counter(), time.process_time()
    prepare(_data(place), place / "packed", parts=state)
    return Cost(rows, time.perf_counter() - start, time.process_time() - processor, peak_of_this_process())


def compare(place: Path, rows: int) -> Cost:
    """Look for pictures that look alike among the fingerprints of as many different ones."""
    from headstart.modalities.image.near_duplicates import LOOKS_ALIKE, looks_of

    draws = np.random.default_rng(0)
    hashes, coarse = [], []
    for start in range(0, rows, _AT_ONCE):
        count = min(_AT_ONCE, rows - start)
        means, steps = draws.normal(128, 30, (count, 1)), draws.normal(0, 15, (count, COARSE * COARSE))
        thumbnails = np.clip(means + steps.cumsum(axis=1), 0, 255).astype(np.uint8).reshape(count, COARSE, COARSE, 1)
        found = [mark for mark in looks_of([*thumbnails.repeat(4, axis=1).repeat(4, axis=2)]) if mark]
        hashes.append(np.array([mark.hash for mark in found], dtype=np.uint64))
        coarse.append(pa.array([mark.coarse for mark in found], pa.large_binary()))
    marks = Marks(np.concatenate(hashes), pa.concat_arrays(coarse))
    start_of, processor = time.perf_counter(), time.process_time()
    LOOKS_ALIKE.pairs(marks, lambda number: np.random.default_rng(number).integers(0, 256, (32, 32, 1), dtype=np.uint8))
    return Cost(rows, time.perf_counter() - start_of, time.process_time() - processor, peak_of_this_process())


def _alone(work: Callable[[Path, int], Cost], place: Path, rows: int) -> Cost:
    """What `work` costs in a process of its own, whose memory is that of this work."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, place, rows).result()


def _data(place: Path) -> Data:
    return Data.of({"uri": str(place / "rows.parquet"), "size": SIDE, "task": "single_label"})


def _columns(rows: int) -> Iterator[dict[str, list[object]]]:
    draws = np.random.default_rng(0)
    header = f"P5\n{SIDE} {SIDE}\n255\n".encode()
    for start in range(0, rows, _AT_ONCE):
        count = min(_AT_ONCE, rows - start)
        images: list[object] = [
            header + pixels.tobytes() for pixels in draws.integers(0, 256, (count, SIDE * SIDE), dtype=np.uint8)
        ]
        labels = [f"class {number:03}" for number in draws.integers(0, CLASSES, count).tolist()]
        splits = ["test" if draw < 0.15 else "train" for draw in draws.random(count).tolist()]
        for number in range(1, count, 100):
            images[number] = images[number - 1]
            if number % 500 != 1:
                labels[number] = labels[number - 1]
            splits[number] = splits[number - 1]
            if number % 250 == 1:
                splits[number] = "test" if splits[number] == "train" else "train"
        groups = [f"group {(start + number) // 40}" if number % 10 == 0 else None for number in range(count)]
        yield {"image": images, "label": list(labels), "group": list(groups), "split": list(splits)}


if __name__ == "__main__":
    sys.exit(main())
