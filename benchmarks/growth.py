"""What every step of a transfer costs with more pictures and with more classes: seconds, and the peak of memory.

    OMP_NUM_THREADS=1 python -m benchmarks.growth [--pictures 1000 10000 60000] [--classes 10 100 1000] [--output FILE]

A cell is a data set of small PNGs, a process of its own that goes through the steps, and an entry of the output; a cell
that is there already is not measured again. Pictures grow with 10 classes, classes with 10,000 pictures. Each picture
is its class's prototype, moved, with noise. Seconds are the processor's, which other work on the machine changes less,
beside those of the clock.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np  # noqa: E402

from benchmarks.machine import commit, machine  # noqa: E402
from benchmarks.memory import peak_of_this_process  # noqa: E402
from benchmarks.tables import markdown  # noqa: E402
from headstart.storage.local import write_json  # noqa: E402

STEPS = ("prepare", "features", "probe", "fine-tune", "evaluate", "diagnose", "report")
SIDE = 32
# Pictures where classes grow, and classes where pictures do.
PICTURES, CLASSES = 10_000, 10
# A step that grows by less than this over its bound, from one cell to the next, is within it: a process's start, and
# other work on the machine.
_ALLOWED = 1.25

_Result = TypeVar("_Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, nargs="*", default=[1000, 10_000, 60_000])
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/growth.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/bench-growth"), help="where the pictures lie")
    parser.add_argument("--cell", type=int, nargs=2, metavar=("PICTURES", "CLASSES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(measure(pictures_of(*options.cell, options.cache.resolve()))))
        return
    content = {"machine": machine(int(THREADS), ("torch", "scikit-learn")), "cells": {}}
    if options.output.exists():
        content["cells"] = json.loads(options.output.read_text(encoding="utf-8"))["cells"]
    cells = [(count, CLASSES) for count in options.pictures] + [(PICTURES, count) for count in options.classes]
    for cell in dict.fromkeys(cells):
        name = "{} pictures, {} classes".format(*cell)
        if name not in content["cells"]:
            pictures_of(*cell, options.cache.resolve())
            command = [sys.executable, "-m", "benchmarks.growth", "--cache", str(options.cache), "--cell"]
            answer = subprocess.run([*command, *map(str, cell)], check=True, stdout=subprocess.PIPE, text=True).stdout
            found = {"pictures": cell[0], "classes": cell[1], "commit": commit(), "steps": json.loads(answer)}
            content["cells"][name] = found
            write_json(options.output, content)
    print(table(content["cells"]), *judge(content["cells"]), sep="\n")


def pictures_of(count: int, classes: int, cache: Path) -> Path:
    """A folder with a folder a class and `count` PNGs in all; made if it is not there yet."""
    from headstart.storage.local import new_directory
    from headstart_pipelines.demo import write_folder

    folder = cache / f"{count}-{classes}"
    if folder.exists():
        return folder
    random = np.random.default_rng(0)
    coarse = random.normal(0, 1, (classes, 8, 8))
    prototypes = coarse.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    labels = np.arange(count) % classes
    pictures = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    for number, label in enumerate(labels.tolist()):
        moved = np.roll(prototypes[label], random.integers(-2, 3, 2), axis=(0, 1))
        pictures[number] = np.clip(128 + 40 * moved + random.normal(0, 30, moved.shape), 0, 255)
    with new_directory(folder) as draft:
        write_folder(pictures, labels, draft)
    return folder


# In the process that is measured.


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """`seconds`, `processor_seconds` and `peak` bytes of each step, in a process that has its imports."""
    from headstart.data.prepare import prepare
    from headstart.data.section import Data
    from headstart.features.extraction import vectors_of
    from headstart.judging.assessment import evaluate
    from headstart.judging.contenders import Contender
    from headstart.judging.diagnostics import diagnose
    from headstart.judging.report.page import report
    from headstart.judging.section import Evaluation
    from headstart.models.bundle import bundle_digest
    from headstart.strategies.baseline import Like
    from headstart.strategies.pretraining import untrained
    from headstart.strategies.section import Strategy
    from headstart.strategies.transfer import transfer
    from headstart.training.context import RunContext
    from headstart.training.section import Training

    found: dict[str, dict[str, float]] = {}
    home = Path(tempfile.mkdtemp(prefix="headstart-"))
    os.environ |= {"HEADSTART_STATE": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}
    context = RunContext(refit=False, cross_validate=False)
    training, evaluation = Training.of({"epochs": 1}), Evaluation.of({"curve_training": False})
    split = {"train": 0.8, "val": 0.1, "test": 0.1}

    def step(name: str, work: Callable[[], _Result]) -> _Result:
        _clear_peak()
        clock, processor = time.perf_counter(), time.process_time()
        result = work()
        found[name] = {
            "seconds": time.perf_counter() - clock,
            "processor_seconds": time.process_time() - processor,
            "peak": peak_of_this_process(),
        }
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
        return result

    data = Data.of({"uri": str(folder), "size": SIDE, "channels": 3, "split": split})
    packed = step("prepare", lambda: prepare(data, home / "packed"))
    source = untrained(Like("convnet", packed.manifest_input), packed, context)
    source.save(home / "source")
    parts = [packed.split(name) for name in ("train", "val", "test")]
    step("features", lambda: vectors_of(source, parts, context.state))

    def contender(name: str) -> Contender:
        trained = transfer(source, packed, Strategy.model_validate(name), training=training, context=context)
        path = trained.save(home / name, packed)
        return Contender(name, "transfer", path, trained.validation, trained.seconds, "", "file:source")

    contenders = [step("probe", lambda: contender("linear_probe")), step("fine-tune", lambda: contender("full"))]
    assessment = step("evaluate", lambda: evaluate(contenders, packed, home / "predictions", evaluation=evaluation))
    selection = {"source": "file:source", "digest": bundle_digest(home / "source")}
    diagnostics = step(
        "diagnose",
        lambda: diagnose(
            assessment,
            packed,
            home / "source",
            evaluation=evaluation,
            training=training,
            strategies=["linear_probe", "full"],
            seed=0,
        ),
    )
    step(
        "report",
        lambda: report(
            assessment, diagnostics, packed, experiment="growth", source=selection, run_id="0", tracking_uri="none"
        ),
    )
    shutil.rmtree(home)
    return found


def _clear_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


# What it comes to.


def table(cells: Mapping[str, Any]) -> str:
    """A row a cell: the processor's seconds of each step, and the most memory of any."""
    rows = [
        [
            name,
            *(f"{cell['steps'][step]['processor_seconds']:.3g}" for step in STEPS),
            f"{max(cell['steps'][step]['peak'] for step in STEPS) / 2**20:.0f}",
        ]
        for name, cell in cells.items()
    ]
    return markdown(["", *STEPS, "MiB"], rows)


def judge(cells: Mapping[str, Any]) -> list[str]:
    """A line for each step that grows faster than linearly in pictures, or than K log K in classes."""
    lines = []
    for along, bound in (("pictures", lambda n: n), ("classes", lambda k: k * math.log(k))):
        other, fixed = ("classes", CLASSES) if along == "pictures" else ("pictures", PICTURES)
        row = sorted((cell for cell in cells.values() if cell[other] == fixed), key=lambda cell: cell[along])
        for one, more in itertools.pairwise(row):
            for step in STEPS:
                grown = more["steps"][step]["processor_seconds"] / one["steps"][step]["processor_seconds"]
                allowed = _ALLOWED * bound(more[along]) / bound(one[along])
                kept = "kept  " if grown <= allowed else "MISSED"
                lines.append(
                    f"{kept}  {step}: {grown:.1f} times from {one[along]} to {more[along]} {along} (≤ {allowed:.1f})"
                )
    return lines


if __name__ == "__main__":
    main()
