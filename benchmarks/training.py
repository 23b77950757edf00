"""headstart's training against fastai, timm, Lightning and a plain loop after torchvision's references.

    OMP_NUM_THREADS=2 python -m benchmarks.training [--cases …] [--tasks …] [--seeds N] [--resume] [--rates]

Each library trains the same network from the same weights (their checksums must agree) on the same files, in batches of
32, once with the defaults of its documentation and once tuned: torchvision's v2 transforms on tensors, channels_last,
bfloat16, a fused AdamW whose rate was found on the validation split. Every run has a process of its own; the libraries
take turns, in another order for each seed, which also draws the samples. Looking at the test accuracy after an epoch is
counted for nobody. A peer's time begins with its image folder and the network in memory, headstart's with its packed
data set and that network; headstart's includes features, heads, choosing its precision, checkpoints and validation, of
which the peers do none. What packing costs is reported apart.

Results are written as they come, and with --resume a run that is there is not done again, so that parts can be measured
one by one.
"""

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.cases import CASES, TASKS, source_of, target_of
from benchmarks.machine import machine
from benchmarks.tables import PEERS, WAYS, check_equal_work, judge, long_table, short_table
from headstart.storage.local import write_json

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "2")
_LIBRARIES = ("torch", "torchvision", "fastai", "timm", "lightning")

# AdamW's peak rates for the tuned peers. Those of the probes were found on cached features, with 3 seeds; where the
# validation split (64 and 20 samples) left a choice, in the peers' favour on the test split. The others are usual ones;
# --rates tries more.
RATES = {
    "convnet-32": {"linear_probe": 1e-1, "partial": 3e-3, "full": 3e-3, "scratch": 1e-2},
    "resnet18-224": {"linear_probe": 1e-2, "partial": 1e-3, "full": 1e-3, "scratch": 1e-3},
}
_TRIED = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


@dataclass(frozen=True)
class Cell:
    """One run: who does what, from which samples."""

    case: str
    task: str
    library: str
    tuned: bool
    seed: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--seeds", type=int, help="seeds of each cell (default: the case's own)")
    parser.add_argument("--rates", action="store_true", help="look for the tuned peers' learning rate instead")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the output has already")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/training.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/bench-training"), help="where sources and data lie")
    options = parser.parse_args()
    cache = options.cache.resolve()
    seeds = {case: options.seeds or CASES[case].seeds for case in options.cases}
    for case in seeds:
        source_of(case, cache)
        for seed in range(seeds[case]):
            target_of(case, seed, cache)
    if options.rates:
        _find_rates(seeds, options.tasks, cache)
        return 0
    results = Results(options.output, resume=options.resume)
    with Libraries(cache / "log.txt") as libraries:
        for cell in _order(seeds, options.tasks):
            if not results.has(cell):
                result = libraries.run(cell, RATES[cell.case][cell.task], cache)
                results.add(cell, result)
                print(f"{cell}: accuracy {result['accuracy']:.3f} after {result['seconds']:.2f} s", flush=True)
    runs = results.content["runs"]
    check_equal_work(runs)
    verdicts = results.finish(seeds, cache)
    print(long_table(runs), short_table(runs), *verdicts, sep="\n")
    return int(any(verdict.startswith("MISSED") for verdict in verdicts))


class Results:
    """What was measured, in a file that is written after every run."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self.content: dict[str, Any] = {"machine": machine(int(THREADS), _LIBRARIES), "packing": {}, "runs": []}
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
        self._write()

    def finish(self, seeds: Mapping[str, int], cache: Path) -> list[str]:
        """Adds what packing the targets took, and the verdicts, which it returns."""
        for case, count in seeds.items():
            found = [_packing(case, seed, cache) for seed in range(count)]
            self.content["packing"][case] = {
                "samples": found[0]["samples"],
                "seconds": statistics.median(one["seconds"] for one in found),
            }
        verdicts = judge(self.content["runs"])
        self.content |= {"finished": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", "verdicts": verdicts}
        self._write()
        return verdicts

    def _write(self) -> None:
        write_json(self._path, self.content)


class Libraries:
    """A process for each library that has imported it, started when it is needed first. What they say goes to `log`."""

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

    def run(self, cell: Cell, rate: float, cache: Path, *, split: str = "test") -> dict[str, Any]:
        """One run and what came of it; the accuracy is that on `split`. SystemExit if it fails."""
        job = asdict(cell) | {
            "rate": rate,
            "split": split,
            "source": str(source_of(cell.case, cache)),
            "target": str(target_of(cell.case, cell.seed, cache)),
        }
        process = self._process(job.pop("library"))
        assert process.stdin  # noqa: S101
        assert process.stdout  # noqa: S101
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        result = json.loads(process.stdout.readline() or '{"error": "its process ended"}')
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


def _order(seeds: Mapping[str, int], tasks: Sequence[str]) -> Iterator[Cell]:
    """Every cell. The libraries take turns, and each seed begins with another one."""
    for case, count in seeds.items():
        for seed, task in itertools.product(range(count), tasks):
            first = seed * len(WAYS) // count
            for library, tuned in WAYS[first:] + WAYS[:first]:
                yield Cell(case, task, library, tuned, seed)


def _find_rates(seeds: Mapping[str, int], tasks: Sequence[str], cache: Path) -> None:
    """Prints what each rate that was tried comes to on the validation split, the mean of the tuned peers."""
    with Libraries(cache / "log.txt") as libraries:
        for case, task, rate in itertools.product(seeds, tasks, _TRIED):
            found = {
                peer: statistics.fmean(
                    libraries.run(Cell(case, task, peer, True, seed), rate, cache, split="val")["accuracy"]
                    for seed in range(seeds[case])
                )
                for peer in PEERS
            }
            each = ", ".join(f"{peer} {accuracy:.3f}" for peer, accuracy in found.items())
            print(f"{case} {task} {rate:g}: {statistics.fmean(found.values()):.3f} ({each})", flush=True)


def _packing(case: str, seed: int, cache: Path) -> dict[str, Any]:
    return dict(json.loads((target_of(case, seed, cache) / "packing.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main())
