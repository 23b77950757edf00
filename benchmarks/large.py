"""What the step costs that joins the parts of a large data set, in seconds and in memory.

    OMP_NUM_THREADS=1 python -m benchmarks.large

A table of 2,000,000 small pictures in 1000 classes is written once, and read once as its parts are (`prepare_part`, 3.5
minutes); both are kept below --cache, where a run that was stopped goes on. Then `prepare` joins what was read, each
time in a process of its own: it lists the table, finds the shards, looks for copies, contradictions and leaks, carves a
validation split out of the given train split, computes the digests, packs and reports. One picture of a hundred is a
copy, one of 500 of them of another class and one of 250 of another split; one of ten has a group. A tenth of the rows
tells how memory grows. Exit status 1 where a bound is missed. Needs Linux and 4 GB below --cache.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import peak_of_this_process
from headstart.data.prepare import prepare, prepare_part
from headstart.data.section import Data
from headstart.storage.local import write_json
from headstart.storage.state import State

ROWS = 2_000_000
CLASSES = 1000
SIDE = 8
MAX_SECONDS = 60.0
MAX_BYTES = 2**30
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Joined:
    """The cost of joining `rows` samples: seconds on the clock and of the processor, the most bytes that the process
    had in memory; how many samples each split has, and how many files were refused."""

    rows: int
    seconds: float
    processor: float
    memory: int
    counts: dict[str, int]
    refused: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--cache", type=Path, default=Path("build/large"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/large.json"))
    options = parser.parse_args()
    found: list[Joined] = []
    for rows in (options.rows // 10, options.rows):
        place = options.cache / str(rows)
        place.mkdir(parents=True, exist_ok=True)
        write_table(place / "rows.parquet", rows)
        read(place)
        # A process of its own, whose memory is that of this work.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            outcome = process.submit(join, place, rows).result()
        found.append(outcome)
        print(
            f"{outcome.rows:>10,} rows: {outcome.seconds:.1f} s ({outcome.processor:.1f} s of the processor), "
            f"{outcome.memory / 2**20:,.0f} MiB; {outcome.counts}, {outcome.refused} refused"
        )
    few, all_rows = found
    per_row = (all_rows.memory - few.memory) / (all_rows.rows - few.rows)
    kept = all_rows.seconds <= MAX_SECONDS and all_rows.memory <= MAX_BYTES
    # It imports torch, which is no part of what is measured.
    from benchmarks.machine import machine

    verdict = "kept" if kept else "MISSED"
    print(f"{per_row:.0f} bytes a row. Bounds, {MAX_SECONDS:.0f} s and {MAX_BYTES / 2**20:,.0f} MiB: {verdict}")
    content = {"joined": [asdict(each) for each in found], "bytes_per_row": per_row}
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


def join(place: Path, rows: int) -> Joined:
    """Join what was read."""
    state = State(str(place / "state"))
    start, processor = time.perf_counter(), time.process_time()
    dataset = prepare(_data(place), place / "packed", parts=state)
    return Joined(
        rows,
        time.perf_counter() - start,
        time.process_time() - processor,
        peak_of_this_process(),
        dataset.counts,
        dataset.manifest["quarantined"],
    )


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
