"""A training whose samples are streamed from an S3 server on this machine, with an empty cache, beside the same one
that reads its store from the disk: samples a second, peak of memory, and requests an epoch.

    OMP_NUM_THREADS=1 python -m benchmarks.streaming [--rounds 5] [--output FILE]

Each training is one epoch of convnet over pictures of 64 by 64 pixels, in a process of its own; both ways take turns.
Beside them stands the bare reading of an epoch, to which nothing is added that a slow read could hide behind.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from benchmarks.machine import commit, machine  # noqa: E402
from benchmarks.memory import peak_of_this_process  # noqa: E402
from benchmarks.tables import markdown  # noqa: E402
from headstart.storage.local import write_json  # noqa: E402

SIDE, BATCH_SIZE = 64, 64
_WAYS = ("disk", "streamed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/streaming.json"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    found = compare(options.pictures, options.rounds)
    write_json(
        options.output, {"machine": machine(int(THREADS), ("torch", "numpy", "boto3")), "commit": commit(), **found}
    )
    print(table(found["rounds"]))


def compare(pictures: int, rounds: int) -> dict[str, Any]:
    """The figures of each round, by way, and the sizes of the data."""
    from headstart.data.prepare import prepare
    from headstart.data.section import Data
    from headstart.environment import environment
    from headstart.storage.state import STATE_VARIABLE
    from tests.services.servers import SeaweedFS

    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        home = Path(place)
        random = np.random.default_rng(0)
        labels = np.arange(pictures) % 10
        prototypes = random.normal(0, 40, (10, SIDE, SIDE, 3))
        images = np.empty((pictures, SIDE, SIDE, 3), dtype=np.uint8)
        for number, label in enumerate(labels.tolist()):
            images[number] = np.clip(128 + prototypes[label] + random.normal(0, 60, images.shape[1:]), 0, 255)
        np.savez(home / "pictures.npz", x=images, y=labels)
        split = {"train": 0.9, "val": 0.05, "test": 0.05}
        given = {"uri": str(home / "pictures.npz"), "size": SIDE, "split": split}
        disk = prepare(Data.of(given), home / "disk")
        server = SeaweedFS(home / "seaweedfs")
        server.create("data")
        try:
            with environment({**server.environment, STATE_VARIABLE: "s3://data/state"}):
                seconds = time.perf_counter()
                prepare(Data.of({**given, "stream": "always"}), home / "streamed")
                seconds = time.perf_counter() - seconds
                done = [{way: _measured(home / way, home / "cache") for way in _WAYS} for _ in range(rounds)]
        finally:
            server.stop()
        size = sum((disk.path / f"{name}.npy").stat().st_size for name in ("train", "val", "test"))
        return {"samples": disk.counts, "bytes": size, "seconds_to_prepare": seconds, "rounds": done}


def _measured(packed: Path, cache: Path) -> dict[str, float]:
    shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.streaming", "--measure", str(packed)]
    variables = {**os.environ, "HEADSTART_CACHE": str(cache)}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables).stdout
    found: dict[str, float] = json.loads(answer)
    print(packed.name, found, file=sys.stderr, flush=True)
    return found


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """Medians of both ways, and of their quotients by round."""
    rows = []
    for key, text in (
        ("samples_per_second", "{:,.0f}"),
        ("seconds", "{:.1f}"),
        ("read_per_second", "{:,.0f}"),
        ("peak", "{:,.0f}"),
        ("requests", "{:.0f}"),
    ):
        by_way = [[one[way][key] for one in rounds] for way in _WAYS]
        quotient = [streamed / disk for disk, streamed in zip(*by_way, strict=True) if disk]
        medians = [text.format(statistics.median(values)) for values in by_way]
        rows.append([key, *medians, f"{statistics.median(quotient):.2f}" if quotient else "–"])
    return markdown(["", *_WAYS, "quotient"], rows)


# In the process that is measured.


def measure(packed: Path) -> dict[str, float]:
    """One epoch of training, and then one of reading alone from an empty cache."""
    from headstart.data.dataset import Dataset
    from headstart.storage import cache, s3
    from headstart.strategies.baseline import Like
    from headstart.strategies.pretraining import untrained
    from headstart.training.context import RunContext
    from headstart.training.engine import training_device
    from headstart.training.feed import training_loader
    from headstart.training.plan import make_plan
    from headstart.training.section import Training
    from headstart.training.supervised import fit

    dataset, context = Dataset.open(packed), RunContext(seed=0)
    requests: list[str] = []
    if dataset.is_streamed("train"):
        s3.client().meta.events.register("before-send.s3.*", lambda request, **_: requests.append(request.url))
    train = dataset.split("train")
    bundle = untrained(Like("convnet", dataset.manifest_input), dataset, context)
    # What preprocessing has read is not there yet when training begins.
    shutil.rmtree(cache.cache_folder(), ignore_errors=True)
    requests.clear()
    settings = {"epochs": 1, "batch_size": BATCH_SIZE, "precision": "fp32", "layout": "channels_last", "compile": "off"}
    plan = make_plan(Training.of(settings), train.labels, pretrained=False)
    clock = time.perf_counter()
    trained = fit(bundle, dataset, plan, context)
    found = {
        "seconds": time.perf_counter() - clock,
        "samples_per_second": trained.samples_per_second or 0.0,
        "requests": float(len(requests)),
        "peak": peak_of_this_process() / 2**20,
    }
    shutil.rmtree(cache.cache_folder(), ignore_errors=True)
    loader = training_loader(dataset, plan, seed=0, device=training_device())
    clock = time.perf_counter()
    for batch in loader._order(1):
        loader.read(batch, 1)
    found["read_per_second"] = dataset.counts["train"] / (time.perf_counter() - clock)
    return found


if __name__ == "__main__":
    main()
