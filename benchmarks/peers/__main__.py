"""Runs of one library, each in a process of its own that has the library's imports from its parent.

    python -m benchmarks.peers NAME

reads jobs from standard input, one JSON object a line, and answers each with a line of JSON. Forking saves every run
the seconds that an import takes and loads nothing that the library does not need.
"""

import contextlib
import importlib
import json
import os
import random
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

# Asked through NVML, the answer leaves CUDA as it is: a forked process could not start it a second time.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

import numpy as np
import torch
import torch._dynamo

from benchmarks.cases import BATCH_SIZE, CASES, CHANNELS, open_source, open_target
from benchmarks.peers.work import THREADS, Watch, Work, checksum, forward_flops
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.training.section import Training


def main(name: str) -> None:
    peer = importlib.import_module(f"benchmarks.peers.{name}")
    # What a library prints must not be read as an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            child = os.fork()
            if child == 0:
                _in_child(peer, json.loads(line), Path(folder), result)
            os.waitpid(child, 0)
            answer = result.read_text() if result.exists() else '{"error": "the run ended without a result"}'
        answers.write(answer + "\n")
        answers.flush()


def _in_child(peer: ModuleType, job: dict[str, Any], folder: Path, result: Path) -> None:
    try:
        _start_blas()
        # Libraries leave logs and checkpoints where they are started.
        os.chdir(folder)
        # Nothing that one run keeps, features or the choice of a precision, is there for the next.
        os.environ |= {
            "HEADSTART_STATE": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        }
        result.write_text(json.dumps(run(peer, **job, folder=folder)))
    except BaseException:
        traceback.print_exc()
        result.write_text(json.dumps({"error": traceback.format_exc(limit=-1)}))
    finally:
        os._exit(0)


def _start_blas() -> None:
    """Lets NumPy's and SciPy's BLAS have their threads, which a fork loses, and which spin for 50 ms when they are new:
    in a process that imports a library itself, that is over before a training begins."""
    square = np.ones((512, 512))
    np.matmul(square, square)
    if "scipy.linalg.blas" in sys.modules:
        sys.modules["scipy.linalg.blas"].dgemm(1.0, square, square)


def run(peer: ModuleType, *, case: str, task: str, seed: int, source: str, target: str, folder: Path) -> dict[str, Any]:
    """Trains once and says how long it took and what came of it; the accuracy is that on the test split."""
    torch.set_num_threads(THREADS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings, packed, bundle = CASES[case], open_target(Path(target)), open_source(Path(source))
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(seed)
    preprocessing, labels = bundle.preprocessing, packed.split("train").labels
    if task == "scratch":
        preprocessing = Preprocessing.fit(packed.split("train").samples, size=settings.size, channels=CHANNELS)
    frozen = settings.frozen(task, len(bundle.network.stages))
    training = Training.of(
        {"epochs": settings.epochs[task], "patience": settings.epochs[task], "batch_size": BATCH_SIZE}
    )
    judged = packed.split("test")
    watch = Watch(_inputs(preprocessing, judged.samples, settings.size), judged.labels, device)
    begun = checksum(bundle.network)
    work = Work(
        task=task,
        images=Path(target) / "images",
        source=bundle,
        classes=len(packed.classes),
        size=settings.size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        training=training,
        plan=settings.plan(training, labels, task, bundle.network),
        from_probe=settings.from_probe(task),
        frozen=frozen,
        keeps_views=task == "partial" and settings.keeps_views,
        precision=settings.precision,
        seed=seed,
        folder=folder,
        watch=watch,
    )
    watch.start()
    with contextlib.redirect_stdout(sys.stderr):
        peer.train(work)
    end = watch.stop(work.network)
    if checksum(bundle.network) != begun:
        raise SystemExit("the run changed its source")
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else watch.peak
    return {
        **end,
        "ready": watch.ready,
        "ready_processor": watch.ready_processor,
        "seen": watch.seen,
        "curve": watch.curve,
        "weights": watch.weights,
        "peak_memory": memory,
        "judged": len(judged.labels),
        "plan": work.plan.to_params(),
        "flops": forward_flops(work.network, settings.size, CHANNELS),
        **work.found,
    }


def _inputs(preprocessing: Preprocessing, samples: np.ndarray, size: int) -> torch.Tensor:
    batches = np.array_split(np.array(samples), max(1, len(samples) // 100))
    return torch.cat([preprocessing(torch.from_numpy(batch)) for batch in batches])


if __name__ == "__main__":
    main(sys.argv[1])
