"""One run of the benchmark: what a library is given, and the watch that times it and looks at its network."""

import copy
import hashlib
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.memory import peak_of_this_process
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.training.plan import Plan
from headstart.training.section import Training

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))

# A memory peak of Linux can be set back, so that the watch's own work is not in it.
_CLEAR_PEAK = Path("/proc/self/clear_refs")


class Watch:
    """Times a run, and stands still while it looks at the test accuracy.

    The accuracy is that of a copy in eval mode, on the same pixels and in the same precision for every library:
    bfloat16 at 224 pixels, where float32 would take longer than what is measured.

    Args:
        inputs: float32 (N, C, H, W), preprocessed; labels: int64 (N,).
    """

    def __init__(self, inputs: Tensor, labels: np.ndarray, device: torch.device) -> None:
        self.device = device
        self.curve: list[dict[str, float]] = []
        self.weights = ""
        self.peak = 0
        self.ready = self.ready_processor = 0.0
        self._inputs, self._labels = inputs, labels
        self._seconds = self._processor = 0.0
        self._since: tuple[float, float] | None = None
        self._samples = self._batches = self.seen = 0
        self._told = (0.0, 0, 0)

    def start(self) -> None:
        """The run begins: a folder of pictures, and a source with its weights, are there."""
        self._go()

    def prepared(self) -> None:
        """The pictures are decoded and ready to be learned from."""
        with self.paused():
            self.ready, self.ready_processor = self._seconds, self._processor

    def begin(self, network: Network, *, whole: bool) -> None:
        """Training is about to begin. Notes the checksum of the stages, or of the `whole` network where its head is
        given too, and counts from here on the samples that reach the head in training."""
        with self.paused():
            self.weights = checksum(network if whole else network.stages)
            network.head.register_forward_hook(self._count)
            self._samples = self._batches = 0
            self._told = (self._seconds, 0, 0)

    def epoch(self, network: Network) -> None:
        """An epoch is over; or, before the first, there is a network to look at."""
        with self.paused():
            seconds, samples, batches = self._told
            self.curve.append(
                {
                    "seconds": self._seconds,
                    "processor_seconds": self._processor,
                    "epoch_seconds": self._seconds - seconds,
                    "samples": self._samples - samples,
                    "batches": self._batches - batches,
                    "trainable": sum(p.numel() for p in network.parameters() if p.requires_grad),
                    "accuracy": self.accuracy(network),
                }
            )
            self._told = (self._seconds, self._samples, self._batches)

    def stop(self, network: Network) -> dict[str, float]:
        """The run is over, and `network` is what it came to: its seconds and its test accuracy."""
        self._halt()
        return {"seconds": self._seconds, "processor_seconds": self._processor, "accuracy": self.accuracy(network)}

    def accuracy(self, network: Network) -> float:
        """The share of the test samples that `network` names rightly."""
        return accuracy(network, self._inputs, self._labels, self.device)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in here is not counted, neither its time nor its memory."""
        self._halt()
        yield
        self._go()

    def _halt(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        assert self._since is not None  # noqa: S101
        wall, processor = self._since
        self._seconds += time.perf_counter() - wall
        self._processor += _processor_seconds() - processor
        self._since = None
        self.peak = max(self.peak, peak_of_this_process())

    def _go(self) -> None:
        if _CLEAR_PEAK.exists():
            _CLEAR_PEAK.write_text("5")
        self._since = time.perf_counter(), _processor_seconds()

    def _count(self, head: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if head.training and torch.is_grad_enabled() and self._since is not None:
            self._samples += len(output)
            self.seen += len(output)
            self._batches += 1


@dataclass
class Work:
    """What a run is given.

    `images` has train/, val/ and test/ with a folder a class; every file is `size` pixels square. `source` reads it as
    RGB in [0, 1], less `mean`, divided by `std`; nobody changes it. `training` is the recipe's section, and `plan` what
    comes of it; `frozen` is how many stages a task keeps as they are, and `keeps_views` whether what they make of each
    picture's variants is worth keeping. `folder` is empty. `network` and `found` are what a run comes to.
    """

    task: str
    images: Path
    source: ModelBundle
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: Training
    plan: Plan
    from_probe: bool
    frozen: int
    keeps_views: bool
    precision: str
    seed: int
    folder: Path
    watch: Watch
    network: Network = field(init=False)
    found: dict[str, Any] = field(default_factory=dict)

    def autocast(self) -> Any:
        """The precision that is the fastest for the case, which both compute in."""
        device = self.watch.device.type
        return torch.autocast(device, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def accuracy(network: Network, inputs: Tensor, labels: np.ndarray, device: torch.device) -> float:
    """Of a copy of `network` in eval mode, in bfloat16 for images of 224 pixels."""
    judged = copy.deepcopy(network).to(device, memory_format=torch.channels_last).eval()
    large = inputs.shape[-1] >= 224
    found = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=large):
        for batch in inputs.split(50):
            batch = batch.to(device, memory_format=torch.channels_last)
            found.append(judged(batch).argmax(1).cpu())
    return float((torch.cat(found).numpy() == labels).mean())


def checksum(module: nn.Module) -> str:
    """SHA-256 over the names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def forward_flops(network: Network, size: int, channels: int) -> int:
    """Floating-point operations of one image's way through the network."""
    from torch.utils.flop_counter import FlopCounterMode

    judged = copy.deepcopy(network).cpu().float().eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        judged(torch.zeros(1, channels, size, size))
    return int(counter.get_total_flops())


def _processor_seconds() -> float:
    """Of this process, and of its workers that have ended: what other work on the machine does not change."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)
