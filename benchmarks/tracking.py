"""What logging to an MLflow server costs a training: less than two in a hundred.

    OMP_NUM_THREADS=1 python -m benchmarks.tracking

One small training on one thread, epochs of about a second, a server of its own over HTTP. In each round it runs without
logging, with queued epochs and the machine's use (what steps do), and with a request an epoch that training waits for;
the order turns from round to round. Other work on the machine moves the time of an epoch by more than logging does, so
the cost is counted as well, from above: the seconds that the training waits in calls that log, and the processor time
of all other threads of its process, which it can lose to them at most, as a share of its own processor time.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.tracking.client import await_server, connect
from headstart.tracking.runs import PARENT_VARIABLE, Run, experiment_named, new_parent, step_run
from headstart.tracking.system_metrics import system_metrics
from headstart.training.context import OnEpoch, RunContext
from headstart.training.plan import make_plan
from headstart.training.section import Training
from headstart.training.supervised import fit
from headstart_pipelines.demo import digits, write_folder

ROUNDS = 7
EPOCHS = 10
BOUND = 0.02

Train = Callable[[OnEpoch | None], None]


class Stopwatch:
    """The seconds that calls took which it was given to make."""

    seconds = 0.0

    def __call__(self, action: Callable[..., object], *arguments: object) -> None:
        start = time.perf_counter()
        action(*arguments)
        self.seconds += time.perf_counter() - start


def without(train: Train, run: Run, call: Stopwatch) -> None:
    train(None)


def queued(train: Train, run: Run, call: Stopwatch) -> None:
    machine = system_metrics(run)
    call(machine.__enter__)
    train(lambda *epoch: call(run.log_epoch, *epoch))
    call(machine.__exit__, None, None, None)
    call(run.flush)


def waiting(train: Train, run: Run, call: Stopwatch) -> None:
    train(lambda epoch, metrics: call(run.log_metrics, metrics, epoch))


WAYS = {"without logging": without, "queued, with the machine's use": queued, "a request an epoch": waiting}


@dataclass(frozen=True)
class Cost:
    """Seconds an epoch."""

    wall: float
    processor: float
    waited: float
    other_threads: float


def main() -> int:
    torch.set_num_threads(1)
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)):
        client = connect()
        experiment = experiment_named(client, "overhead")
        os.environ[PARENT_VARIABLE] = new_parent(client, experiment, name="overhead", pipeline_run="overhead").id
        train = training(Path(folder))
        train(None)
        for number in range(ROUNDS):
            order = list(WAYS)[number % len(WAYS) :] + list(WAYS)[: number % len(WAYS)]
            for name in order:
                with step_run("overhead", name) as run:
                    costs[name].append(measured(WAYS[name], train, run))
    print(f"{ROUNDS} rounds of {EPOCHS} epochs; milliseconds an epoch, median (lowest to highest)")
    bare = statistics.median(cost.processor for cost in costs["without logging"])
    for name, found in costs.items():
        added = statistics.median(
            cost.wall / none.wall - 1 for cost, none in zip(found, costs["without logging"], strict=True)
        )
        counted = statistics.median(cost.waited + cost.other_threads for cost in found) / bare
        print(
            f"  {name:<31} {column([cost.wall for cost in found])} {added:+7.2%}"
            f" | processor {column([cost.processor for cost in found])}"
            f" | waited {column([cost.waited for cost in found])}"
            f" | other threads {column([cost.other_threads for cost in found])} | at most {counted:.2%}"
        )
        if name == "queued, with the machine's use":
            kept = counted < BOUND
    print(f"bound {BOUND:.0%}: {'kept' if kept else 'EXCEEDED'}")
    return int(not kept)


def measured(way: Callable[[Train, Run, Stopwatch], None], train: Train, run: Run) -> Cost:
    call = Stopwatch()
    start, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
    way(train, run, call)
    wall, processor = time.perf_counter() - start, time.thread_time() - thread
    other_threads = time.process_time() - process - processor
    return Cost(wall / EPOCHS, processor / EPOCHS, call.seconds / EPOCHS, other_threads / EPOCHS)


def column(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f} ({1000 * min(seconds):.1f} to {1000 * max(seconds):.1f})"


def training(folder: Path) -> Train:
    """Trains a convnet from the same start on the same samples each time."""
    write_folder(*digits(), folder / "digits")
    dataset = prepare(
        Data.of({"uri": str(folder / "digits"), "size": 36, "split": {"train": 0.7, "val": 0.2, "test": 0.1}}),
        folder / "packed",
    )
    plan = make_plan(
        Training.of({"epochs": EPOCHS, "patience": EPOCHS, "batch_size": 64}),
        dataset.split("train").labels,
        pretrained=False,
    )

    def train(on_epoch: OnEpoch | None) -> None:
        fit(fresh(dataset), dataset, plan, RunContext(on_epoch=on_epoch))

    return train


def fresh(dataset: Dataset) -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        network=convnet(classes=len(dataset.classes), channels=1),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(dataset.split("train").samples, size=36, channels=1),
        classes=dataset.classes,
        provenance={},
    )


@contextlib.contextmanager
def server(folder: Path) -> Iterator[None]:
    """An MLflow server on SQLite, to which MLFLOW_TRACKING_URI points."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [
        sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts",
    ]  # fmt: skip
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("wb") as log:
        # Its job runners are nothing that logging needs, and would take the processor from the training.
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        await_server(os.environ["MLFLOW_TRACKING_URI"])
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
