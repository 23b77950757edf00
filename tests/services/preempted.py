"""Trainings that are there to be ended: what a step trains, each time in a process of its own.

Run as a script it reads lines of JSON, each a training to do, and does it in a fork, so that what takes seconds to
import is imported once. Of each it writes the process's number as a line, a byte at each of its moments (`BEGUN`,
`MODULE` before a module computes, `STEP` after a step of the optimiser, `TRAINED` when one of its trainings is over)
and, when the process is gone, its exit code as a line of its own.
"""

import importlib
import json
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from headstart.data.dataset import Dataset
from headstart.jobs.job import baseline_job, train, transfer_job
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.signals import Interruption, exiting_when_terminated
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import Strategy
from headstart.training import engine
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training

BEGUN, MODULE, STEP, TRAINED = b"bmst"

SEED = 5
TRANSFORMER = "timm/test_vit"
# Many steps, so that there are many places to be ended at, and a rate at which the weights become better than the
# fitted head that training starts from, beyond noise where that would stay otherwise.
_TRAINING = {"epochs": 4, "batch_size": 16, "learning_rate": 0.0005, "augmentation": "none", "patience": 9}
_FURTHER = {"epochs": 8, "learning_rate": 0.002}


def _transfer(strategy: str | dict[str, Any], source: str = "convnet", **training: Any) -> dict[str, Any]:
    return {"strategy": strategy, "source": source, "training": {**_TRAINING, **training}}


def _pretraining(**section: Any) -> dict[str, Any]:
    return {"pretraining": {"epochs": 3, "batch_size": 32, **section}}


SOURCE = _pretraining(epochs=5)

# Everything that a recipe may ask for is in one of them: each preset, regulariser, objective and optimiser, an average
# of the weights, micro-batches, each augmentation and none.
CASES: dict[str, dict[str, Any]] = {
    "zero": _transfer("zero"),
    "linear_probe": _transfer("linear_probe"),
    "partial": _transfer({"name": "partial", "transfer": "partial", "freeze": 1, "regularizer": "l2"}, epochs=6),
    "partial, on views": _transfer(
        {"name": "partial", "transfer": "partial", "schedule": "constant"}, augmentation="affine", views=2, flip=True
    ),
    "full": _transfer({"name": "full", "transfer": "full", "regularizer": "l2_sp"}, ema=0.6, **_FURTHER),
    "full, from a new head": _transfer(
        {"name": "full", "transfer": "full", "schedule": "constant"},
        augmentation="crop",
        optimizer="sgd",
        learning_rate=0.02,
        accumulate=2,
        ema=0.6,
    ),
    "lp_ft": _transfer({"name": "lp_ft", "transfer": "full", "schedule": "lp_ft", "regularizer": "delta"}, **_FURTHER),
    "gradual": _transfer("gradual", epochs=10),
    "surgical": _transfer("surgical"),
    "surgical, from a new head": _transfer(
        {
            "name": "surgical",
            "transfer": "partial",
            "surgical": "first",
            "schedule": "constant",
            "regularizer": "l2_sp",
        },
        augmentation="crop",
        ema=0.6,
    ),
    "wise_ft": _transfer("wise_ft", **_FURTHER),
    "lora": _transfer(
        {"name": "lora", "transfer": "partial", "lora": 8, "schedule": "constant"},
        source="transformer",
        epochs=4,
        learning_rate=0.003,
    ),
    "scratch": {"scratch": {"epochs": 4, "batch_size": 16, "label_smoothing": 0.1, "class_weights": "balanced"}},
    "supervised": _pretraining(augmentation="crop", epochs=6, batch_size=16, ema=0.6),
    "vicreg": _pretraining(objective="vicreg", ema=0.9),
}


def bundle_of(case: dict[str, Any], dataset: Path, sources: Path) -> ModelBundle:
    """Trains as the step of a pipeline does."""
    if "pretraining" in case:
        section = Pretraining.of(case["pretraining"], at="pretraining")
        return pretrain(section, Dataset.open(dataset), RunContext(SEED)).bundle
    training = Training.of(case.get("scratch") or case["training"], at="training")
    if "scratch" in case:
        like = ModelBundle.load(sources / "convnet")
        return train(baseline_job("scratch", dataset, like, training), RunContext(SEED)).bundle
    job = transfer_job(
        sources / case["source"],
        dataset,
        Strategy.model_validate(case["strategy"]),
        training=training,
        reference=None,
        digest=None,
    )
    return train(job, RunContext(SEED)).bundle


def untrained(architecture: str, dataset: Dataset) -> ModelBundle:
    """What a pretraining on `dataset` starts from."""
    torch.manual_seed(SEED)
    size = 160 if architecture == TRANSFORMER else dataset.shape[0]
    network = build_network(architecture, classes=len(dataset.classes), channels=1)
    return ModelBundle(
        network=network,
        architecture=architecture,
        modality="image",
        preprocessing=Preprocessing.fit(np.asarray(dataset.split("train").samples), size=size, channels=1),
        classes=dataset.classes,
        provenance={"role": "source", "head": "trained"},
    )


def _work(request: dict[str, Any]) -> None:
    answers = os.dup(1)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO)
    os.environ.update(request["environment"])

    def tell(moment: int) -> None:
        os.write(answers, bytes([moment]))

    register_module_forward_pre_hook(lambda *_: tell(MODULE))
    register_optimizer_step_post_hook(lambda *_: tell(STEP))

    class Told(Interruption):
        def __exit__(self, *error: Any) -> None:
            tell(TRAINED)
            super().__exit__(*error)

    engine.Interruption = Told  # type: ignore[misc]
    os.write(answers, f"{os.getpid()}\n".encode() + bytes([BEGUN]))
    bundle_of(request["case"], Path(request["dataset"]), Path(request["sources"])).save(Path(request["bundle"]))


def _code_of(request: dict[str, Any]) -> int:
    """Does the training in a fork, waits for its end, and returns its exit code."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    # What comes after the end changes nothing.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        # As in a step.
        with exiting_when_terminated():
            _work(request)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    # What the trainings import late.
    for module in ("pyarrow.parquet", "scipy.optimize", "sklearn.metrics", "timm", "headstart.strategies.transfer"):
        importlib.import_module(module)

    for line in sys.stdin:
        os.write(1, f"\n{_code_of(json.loads(line))}\n".encode())


if __name__ == "__main__":
    main()
