"""What a model costs whoever runs it: the size of its files, and the time of a prediction."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstart.models.bundle import ModelBundle

# Every contender of every evaluation is measured, so that a large network must not take minutes.
_WARM_UP, _REPEATS = 2, 5


@dataclass(frozen=True)
class ServingCost:
    """`size` in bytes, and the milliseconds of a prediction for one sample on a core of this machine."""

    size: int
    milliseconds: float


def cost_of(bundle: "ModelBundle", path: Path) -> ServingCost:
    """The cost of the model `bundle`, whose files lie in the folder `path`."""
    import torch

    size, threads = sum(file.stat().st_size for file in path.rglob("*.safetensors")), torch.get_num_threads()
    # Where other steps have the cores, threads that wait for one another take a thousand times as long, and the median
    # some times as long as nothing else would make it.
    torch.set_num_threads(1)
    try:
        return ServingCost(size, 1000 * min(prediction_seconds(bundle, warm_up=_WARM_UP, repeats=_REPEATS)))
    finally:
        torch.set_num_threads(threads)


def prediction_seconds(bundle: "ModelBundle", *, warm_up: int, repeats: int) -> list[float]:
    """How long each of `repeats` predictions for one sample takes on this machine, after `warm_up` others."""
    sample = bundle.preprocessing.noise(1)
    return seconds_of(lambda: bundle.predict_outputs(sample), warm_up=warm_up, repeats=repeats)


def seconds_of(call: Callable[[], object], *, warm_up: int, repeats: int) -> list[float]:
    """How long each of `repeats` calls takes on this machine, after `warm_up` others."""
    seconds = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[warm_up:]
