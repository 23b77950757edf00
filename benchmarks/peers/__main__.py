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
from benchmarks.peers.work import THREADS, Watch, Work, forward_flops
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network


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
        result.write_text(json.dumps(run(peer, **job)))
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


def run(
    peer: ModuleType, *, case: str, task: str, tuned: bool, seed: int, rate: float, split: str, source: str, target: str
) -> dict[str, Any]:
    """Trains once and says how long it took and what came of it; the accuracy is that on `split`."""
    torch.set_num_threads(THREADS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = CASES[case]
    packed = open_target(Path(target))
    bundle = open_source(Path(source))
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(seed)
    network, preprocessing = bundle.network, bundle.preprocessing
    if task == "scratch":
        preprocessing = Preprocessing.fit(packed.split("train").samples, size=settings.size, channels=CHANNELS)
        # The seed once more, because headstart's own training from scratch draws its weights right after it.
        torch.manual_seed(seed)
        network = build_network(settings.architecture, classes=len(packed.classes), channels=CHANNELS)
    else:
        network.unfreeze()
        network.replace_head(len(packed.classes), torch.Generator().manual_seed(seed))
    # A bundle's network is in eval mode; Lightning trains a network in the mode that it is given.
    network.train()
    # The network of the source reads what it was trained on; the target's images have a size of their own.
    judged = packed.split(split)
    watch = Watch(_inputs(preprocessing, judged.samples, settings.size), judged.labels, device)
    stages = len(network.stages)
    work = Work(
        task=task,
        images=Path(target) / "images",
        network=network,
        frozen={"linear_probe": stages, "partial": -(-stages // 2)}.get(task, 0),
        size=settings.size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        epochs=settings.epochs[task],
        batch_size=BATCH_SIZE,
        rate=rate,
        seed=seed,
        device=device,
        watch=watch,
        given={"source": bundle, "packed": Path(target) / "packed"},
    )
    watch.start()
    with contextlib.redirect_stdout(sys.stderr):
        peer.train(work, tuned)
    end = watch.stop(work.network)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else watch.peak
    return {
        **end,
        "curve": watch.curve,
        "weights": watch.weights,
        "peak_memory": memory,
        "judged": len(judged.labels),
        "flops": forward_flops(work.network, settings.size, CHANNELS),
        **work.found,
    }


def _inputs(preprocessing: Preprocessing, samples: np.ndarray, size: int) -> torch.Tensor:
    batches = np.array_split(np.array(samples), max(1, len(samples) // 100))
    return torch.cat([preprocessing(torch.from_numpy(batch)) for batch in batches])


if __name__ == "__main__":
    main(sys.argv[1])
