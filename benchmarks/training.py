"""headstart's training against what an expert would write for this very case (benchmarks/peers/expert.py).

    OMP_NUM_THREADS=1 python -m benchmarks.training [--cases …] [--tasks …] [--rounds N] [--resume] [--output FILE]

Both make the same network from the same weights of the same files, with the same batches, epochs, schedule and
augmentation, which is asserted. The clock is the same: it begins with the files on the disk and the source in memory,
so that preparing is counted on both sides, and ends with the weights; it stands still while it looks at the test
accuracy after an epoch. headstart checks, splits and reports the data, chooses its precision, validates each epoch and
keeps checkpoints, of which the expert does nothing. Left out is what it does by default and the expert does not: the
second training on all labels, and those that judge a contender on more labels.

A run has a process of its own. The sides take turns in each round, which also draws the samples, and every other round
begins with the other side. Results are written as they come; with --resume a run that is there is not done again.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.cases import CASES, TASKS, source_of, target_of
from benchmarks.machine import commit, machine
from benchmarks.tables import SIDES, check_equal_work, table
from headstart.storage.local import write_json

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "2")
_LIBRARIES = ("torch", "torchvision", "scikit-learn")


@dataclass(frozen=True)
class Cell:
    """One run: who does what, from which samples."""

    case: str
    task: str
    side: str
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case and task (default 5)")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the output has already")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/training.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/bench-training"), help="where sources and data lie")
    options = parser.parse_args()
    cache = options.cache.resolve()
    for case in options.cases:
        source_of(case, cache)
        for seed in range(options.rounds):
            target_of(case, seed, cache)
    results = Results(options.output, resume=options.resume)
    with Sides(cache / "log.txt") as sides:
        for cell in _order(options.cases, options.tasks, options.rounds):
            if not results.has(cell):
                result = sides.run(cell, cache)
                results.add(cell, result)
                print(f"{cell}: accuracy {result['accuracy']:.3f} after {result['seconds']:.2f} s", flush=True)
    check_equal_work(results.content["runs"])
    print(table(results.content["runs"]))


class Results:
    """What was measured, in a file that is written after every run."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self.content: dict[str, Any] = {"machine": machine(int(THREADS), _LIBRARIES), "commit": commit(), "runs": []}
        if resume and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["machine"] != self.content["machine"]:
                raise SystemExit(f"{path} was measured with {before['machine']}, not with {self.content['machine']}")
            self.content = before

    def has(self, cell: Cell) -> bool:
        """Whether the cell was measured before."""
        wanted = asdict(cell)
        return any(wanted.items() <= run.items() for run in self.content["runs"])

    def add(self, cell: Cell, result: dict[str, Any]) -> None:
        """Keeps a run."""
        self.content["runs"].append(asdict(cell) | result)
        write_json(self._path, self.content)


class Sides:
    """A process for each side that has its imports, started when it is needed first. What they say goes to `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w", encoding="utf-8")
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            assert process.stdin  # noqa: S101 - a pipe, see `_process`
            process.stdin.close()
            process.wait()
        self._log.close()

    def run(self, cell: Cell, cache: Path) -> dict[str, Any]:
        """One run and what came of it. SystemExit if it fails."""
        job = asdict(cell) | {
            "source": str(source_of(cell.case, cache)),
            "target": str(target_of(cell.case, cell.seed, cache)),
        }
        process = self._process(job.pop("side"))
        assert process.stdin  # noqa: S101
        assert process.stdout  # noqa: S101
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        result: dict[str, Any] = json.loads(process.stdout.readline() or '{"error": "its process ended"}')
        if "error" in result:
            raise SystemExit(f"{cell} failed: {result['error']} See {self._log.name}")
        return result

    def _process(self, name: str) -> subprocess.Popen[str]:
        if name not in self._processes:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peers", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        return self._processes[name]


def _order(cases: Sequence[str], tasks: Sequence[str], rounds: int) -> Iterator[Cell]:
    for case, task, seed in itertools.product(cases, tasks, range(rounds)):
        for side in SIDES if seed % 2 == 0 else reversed(SIDES):
            yield Cell(case, task, side, seed)


if __name__ == "__main__":
    main()
