"""What headstart's engine adds to a bare loop of forward, backward and step: at most 3% of the time.

    python -m benchmarks.engine [--cases …] [--output FILE]

The bare loop trains on one synthetic batch that is there already, with the same network, batch of 32, precision, memory
layout and fused optimiser. The engine trains on packed pictures: it picks and copies them, preprocesses them, follows
its schedule, counts its losses and looks whether a checkpoint is due. The second figure has augmentation as well, and
so has its bare loop: the expert's of benchmarks/peers, of pictures that are in memory as normalised floats. All take
turns, each in a process of its own, so that other work on the machine hits all and how one uses memory none of the
others; the time of a step is that from the end of one step to the end of the next, the median of a round. The
processor's time of a step, which other work moves less, is shown beside it.

Memory is the peak of a process for each, with the same libraries loaded; the engine's has an epoch, the judgement of
the start and of its result, and a checkpoint after each step. Then come 20 epochs, after each of which the process is
weighed. Exit status 1 where a bound is missed.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

from benchmarks.machine import commit  # noqa: E402
from benchmarks.peers.expert import augmented as warped  # noqa: E402
from headstart.data.dataset import Dataset  # noqa: E402
from headstart.data.prepare import prepare  # noqa: E402
from headstart.data.section import Data  # noqa: E402
from headstart.modalities.image.preprocessing import Preprocessing  # noqa: E402
from headstart.models.architectures import build_network  # noqa: E402
from headstart.models.bundle import ModelBundle  # noqa: E402
from headstart.storage.local import write_json  # noqa: E402
from headstart.storage.state import State  # noqa: E402
from headstart.training.context import RunContext  # noqa: E402
from headstart.training.engine import CHECKPOINT_VARIABLE  # noqa: E402
from headstart.training.plan import Plan, make_plan  # noqa: E402
from headstart.training.section import Training  # noqa: E402
from headstart.training.speed import Speed  # noqa: E402
from headstart.training.supervised import fit  # noqa: E402
from headstart.training.timings import processor  # noqa: E402
from headstart_pipelines.demo import digits, write_folder  # noqa: E402

BATCH_SIZE = 32
# The folders say which split a picture is in; there is none that these have to part.
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SPEED = Speed("fp32", channels_last=True)

MIN_THROUGHPUT = 0.97
MAX_MEMORY = 1.2
EPOCHS = 20
# Of the process's memory, over the later half of the epochs.
MAX_GROWTH = 0.01

# Each way of the engine's, after its bare loop.
WAYS = ("bare", "headstart", "bare, augmented", "headstart, augmented")
BARE = {"headstart": "bare", "headstart, augmented": "bare, augmented"}


@dataclass(frozen=True)
class Case:
    """A network at a side of pixels; each round has `steps` steps of each way."""

    architecture: str
    size: int
    steps: int
    rounds: int
    # Samples that the engine judges in the process whose memory is measured.
    judged: int


CASES = {
    "convnet-32": Case("convnet", 32, steps=24, rounds=9, judged=300),
    "resnet18-224": Case("resnet18", 224, steps=3, rounds=3, judged=64),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/engine.json"))
    parser.add_argument("--memory-of", nargs=3, metavar=("CASE", "WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(weigh(*options.memory_of)))
        return 0
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        found = {name: measure(name, Path(folder)) for name in options.cases}
        growth = weighed(next(iter(options.cases)), "growth", Path(folder))
    content = {
        "machine": {"processor": processor(), "threads": int(THREADS), "torch": torch.__version__},
        "batch_size": BATCH_SIZE,
        "speed": str(SPEED),
        "commit": commit(),
        "cases": found,
        "growth": growth,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, content)
    print(table(content))
    missed = [line for line in judge(content) if line.startswith("MISSED")]
    print("\n".join(judge(content)))
    return int(bool(missed))


# What is measured.


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Seconds a step of each way and those of the processor, lists with an entry a round, and the peak memory of two
    processes in bytes."""
    case = CASES[name]
    dataset = packed(case, folder / name, train=case.steps * BATCH_SIZE, val=20)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    processor_seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        fresh = multiprocessing.get_context("spawn")
        processes = {way: stack.enter_context(ProcessPoolExecutor(1, mp_context=fresh)) for way in WAYS}
        # The first round makes kernels, and is not counted.
        for number in range(case.rounds + 1):
            # The order turns, so that none always comes after the same.
            turn = number % len(WAYS)
            for way in WAYS[turn:] + WAYS[:turn]:
                took, worked = processes[way].submit(seconds_a_step, case, way, dataset.path).result()
                if number:
                    seconds[way].append(took)
                    processor_seconds[way].append(worked)
            print(f"{name}: round {number} of {case.rounds}", file=sys.stderr)
    memory = {way: weighed(name, way, folder)["peak"] for way in WAYS[:2]}
    return {"seconds": seconds, "processor_seconds": processor_seconds, "memory": memory}


def seconds_a_step(case: Case, way: str, packed_data: Path) -> tuple[float, float]:
    """By the clock and by the processor."""
    dataset = Dataset.open(packed_data)
    bundle = untrained(case, dataset)
    with step_ends() as ends:
        if way in BARE:
            fit(bundle, dataset, plan(dataset, augmented=way != "headstart"), RunContext())
        else:
            bare_loop(bundle, len(dataset.classes), case.steps, augmented=way != "bare")
    clock, processor_clock = np.diff(np.array(ends), axis=0).T
    return statistics.median(clock), statistics.median(processor_clock)


def bare_loop(bundle: ModelBundle, classes: int, steps: int, *, augmented: bool = False) -> None:
    """The engine's arithmetic, and nothing else."""
    network = bundle.network.train()
    SPEED.prepare(network)
    size, channels = bundle.preprocessing.size, bundle.preprocessing.channels
    pictures = SPEED.laid_out(torch.randn(BATCH_SIZE * steps, channels, size, size))
    images = pictures[:BATCH_SIZE]
    labels = torch.arange(BATCH_SIZE) % classes
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    for chosen in torch.randperm(len(pictures)).split(BATCH_SIZE):
        if augmented:
            images = SPEED.laid_out(warped(pictures[chosen], 1.0))
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()


@contextmanager
def step_ends() -> Iterator[list[tuple[float, float]]]:
    """When each step of an optimiser ended, in seconds of the clock and of the processor."""
    ends: list[tuple[float, float]] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.process_time())))
    try:
        yield ends
    finally:
        handle.remove()


# Memory, each in a process of its own.


def weighed(name: str, way: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.engine", "--memory-of", name, way, str(folder)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(answer)
    return found


def weigh(name: str, way: str, folder: str) -> dict[str, Any]:
    """`peak`, or `epochs`, the memory after each of 20; in bytes."""
    case, place = CASES[name], Path(folder) / way
    count = 8 * BATCH_SIZE if way == "growth" else min(case.steps, 4) * BATCH_SIZE
    dataset = packed(case, Path(folder) / f"{name} for memory, {way == 'growth'}", train=count, val=case.judged)
    bundle = untrained(case, dataset)
    if way == "bare":
        bare_loop(bundle, len(dataset.classes), count // BATCH_SIZE)
        return {"peak": peak()}
    os.environ[CHECKPOINT_VARIABLE] = "0"
    epochs: list[int] = []
    process = psutil.Process()

    def on_epoch(epoch: int, _: dict[str, float]) -> None:
        if epoch:
            epochs.append(process.memory_info().rss)

    settings = plan(dataset, augmented=True, epochs=EPOCHS if way == "growth" else 1)
    fit(bundle, dataset, settings, RunContext(state=State(str(place)), on_epoch=on_epoch))
    return {"epochs": epochs} if way == "growth" else {"peak": peak()}


def peak() -> int:
    # Kibibytes, but on macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def growth_an_epoch(epochs: list[int]) -> float:
    """Bytes an epoch: the slope of the line through the later half."""
    later = np.array(epochs[len(epochs) // 2 :], dtype=np.float64)
    return float(np.polyfit(np.arange(len(later)), later, 1)[0])


# What is trained.


def packed(case: Case, folder: Path, *, train: int, val: int) -> Dataset:
    """So many real digits, packed, in three channels."""
    if not (folder / "packed" / "manifest.json").exists():
        images, labels = digits()
        # A picture twice would be a leak between two splits.
        images, first = np.unique(images, axis=0, return_index=True)
        labels = labels[first]
        # One of each class after the other, so that every split has them all.
        order = np.lexsort((labels, pd.Series(labels).groupby(labels).cumcount()))[: train + val + 10]
        splits = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
        for split, chosen in splits.items():
            write_folder(images[chosen], labels[chosen], folder / "pictures" / split)
        prepare(
            Data.of({"uri": str(folder / "pictures"), "size": case.size, "channels": 3, "split": SHARES}),
            folder / "packed",
        )
    return Dataset.open(folder / "packed")


def untrained(case: Case, dataset: Dataset) -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        network=build_network(case.architecture, classes=len(dataset.classes), channels=3),
        architecture=case.architecture,
        modality="image",
        preprocessing=Preprocessing.fit(dataset.split("train").samples, size=case.size, channels=3),
        classes=dataset.classes,
        provenance={},
    )


def plan(dataset: Dataset, *, augmented: bool, epochs: int = 1) -> Plan:
    values = {
        "epochs": epochs,
        "patience": epochs,
        "batch_size": BATCH_SIZE,
        "augmentation": "affine" if augmented else "none",
        "precision": SPEED.precision,
        "layout": "channels_last",
        "compile": "off",
    }
    return make_plan(Training.of(values), dataset.split("train").labels, pretrained=True)


# What it comes to.


def shares(found: dict[str, Any], way: str, clock: str = "seconds") -> list[float]:
    """Images a second as a share of its bare loop's, round by round."""
    return [bare / took for bare, took in zip(found[clock][BARE[way]], found[clock][way], strict=True)]


def table(content: dict[str, Any]) -> str:
    lines = [
        "| case | | images/s | of the bare loop's | by processor time | peak memory, MiB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, found in content["cases"].items():
        for way in WAYS:
            rates = [BATCH_SIZE / seconds for seconds in found["seconds"][way]]
            memory = f"{found['memory'][way] / 2**20:.0f}" if way in found["memory"] else ""
            clocks = ("seconds", "processor_seconds")
            wall, work = (spread(shares(found, way, c), "{:.1%}".format) if way in BARE else "" for c in clocks)
            lines.append(f"| {name} | {way} | {spread(rates, '{:.3g}'.format)} | {wall} | {work} | {memory} |")
    return "\n".join(lines)


def spread(values: list[float], said: Callable[[float], str]) -> str:
    return f"{said(statistics.median(values))} ({said(min(values))} to {said(max(values))})"


def judge(content: dict[str, Any]) -> list[str]:
    """A line for each bound: kept or missed, and the number."""
    lines = []
    for name, found in content["cases"].items():
        for way in BARE:
            share = statistics.median(shares(found, way))
            said = f"{name}: {way} has {share:.1%} of the images/s of {BARE[way]} (≥ {MIN_THROUGHPUT:.0%})"
            lines.append(verdict(share >= MIN_THROUGHPUT, said))
        ratio = found["memory"]["headstart"] / found["memory"]["bare"]
        lines.append(
            verdict(ratio <= MAX_MEMORY, f"{name}: {ratio:.2f} times the bare loop's peak memory (≤ {MAX_MEMORY})")
        )
    epochs = content["growth"]["epochs"]
    grown = growth_an_epoch(epochs) * (len(epochs) // 2) / epochs[-1]
    said = f"{grown:+.2%} memory over the later half of {len(epochs)} epochs (≤ {MAX_GROWTH:.0%})"
    return [*lines, verdict(grown <= MAX_GROWTH, said)]


def verdict(kept: bool, said: str) -> str:
    return f"{'kept  ' if kept else 'MISSED'}  {said}"


if __name__ == "__main__":
    sys.exit(main())
