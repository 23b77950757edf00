"""What a model costs whoever runs it: the size of its files, and the time of a prediction."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headstart.models.bundle import ModelBundle

_WARM_UP, _REPEATS = 3, 50
# A network that takes longer is measured less often: three times at the least.
_PATIENCE = 1.0


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
        return ServingCost(size, 1000 * min(prediction_seconds(bundle)))
    finally:
        torch.set_num_threads(threads)


def prediction_seconds(bundle: "ModelBundle") -> list[float]:
    """How long each of up to 50 predictions for one sample takes on this machine."""
    sample = bundle.preprocessing.noise(1)
    seconds: list[float] = []
    for number in range(-_WARM_UP, _REPEATS):
        start = time.perf_counter()
        bundle.predict_probabilities(sample)
        if number >= 0:
            seconds.append(time.perf_counter() - start)
        if len(seconds) >= 3 and sum(seconds) > _PATIENCE:
            break
    return seconds
