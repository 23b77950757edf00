"""How the steps of a training are computed: precision, memory format, compiled or not.

Which is fastest depends on the processor and the network, so a few timed steps choose, once for a host and a network.
Beyond rounding none of it changes the result: weights, gradients, optimiser and losses stay in float32.
"""

import copy
import importlib.util
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headstart.errors import InputError
from headstart.modalities.batch import Inputs
from headstart.models.network import Network
from headstart.storage.state import State
from headstart.training.distributed import current_group
from headstart.training.flops import step_flops
from headstart.training.timings import (
    Step,
    Timings,
    described,
    kept_timings,
    time_convolution,
    time_forward,
    time_steps,
    timed_once,
)

if TYPE_CHECKING:
    from headstart.training.plan import Plan

log = logging.getLogger(__name__)

# A training of less work than this takes the default. Convnet at 32 px makes 5e10 operations a second on one core, so
# this is over a minute of it, and eight times what the demo's source takes; measuring takes 8 to 24 steps.
MEASURED_OPERATIONS = 4e12
MEASURED_STEPS = 100
# From here on, 20 s of that core, the default is in the precision in which a convolution is faster on this machine.
CONSIDERED_OPERATIONS = 1e12
# A choice instead of the default is faster than it by this share at least; less is noise.
MARGIN = 0.1
# Compiling takes a minute or more on a core; a training that takes less than this is not worth the trial.
_COMPILED_SECONDS = 1200.0


@dataclass(frozen=True)
class Speed:
    """A way to compute steps. `precision` is fp32 or bf16; `channels_last` is the memory format of images."""

    precision: str = "fp32"
    channels_last: bool = False
    compiled: bool = False

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of the forward pass: with bf16, operations that are safe in it run in bfloat16.

        Backward and the optimiser stay outside, and so do losses and penalties, on outputs made `.float()`.
        """
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def prepare(self, network: torch.nn.Module) -> None:
        """Changes the memory format of convolutions' weights in place; the parameters stay the same objects.

        Call it before the first step: an optimiser's state takes over the memory format of the parameters.
        """
        network.to(memory_format=self._memory_format)  # type: ignore[call-overload]

    def laid_out(self, inputs: Inputs) -> Inputs:
        """Maps (N, C, H, W) in the same memory format, without a copy if they have it already; other inputs as they
        are."""
        if isinstance(inputs, Tensor) and inputs.ndim == 4:
            return inputs.contiguous(memory_format=self._memory_format)
        return inputs

    def activations(self, network: Network) -> Callable[[Inputs, int], list[Inputs]]:
        """`network.activations`, compiled or not; the network and the names of its state do not change.

        A training that was compiled may resume, from its checkpoint, on a machine without a compiler.
        """
        if not self.compiled:
            return network.activations
        if not _has_compiler(next(network.parameters()).device):
            log.warning("This training was compiled, and this machine has no compiler; it goes on uncompiled.")
            return network.activations
        return torch.compile(network.activations)

    def to_params(self) -> dict[str, str | bool]:
        """The choice as flat parameters for the record, in the words of a recipe."""
        return {"precision": self.precision, "layout": self._layout, "compiled": self.compiled}

    @property
    def _layout(self) -> str:
        return "channels_last" if self.channels_last else "contiguous"

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        return f"{self.precision} {self._layout}" + (" compiled" if self.compiled else "")


def choose_speed(
    network: Network, example: Inputs, *, start: int, plan: "Plan", steps: int, state: State | None
) -> Speed:
    """The settings that `plan` pins, and for the rest those that are fastest here for steps like this one.

    The default is channels_last, in bf16 on GPUs that compute in it and in fp32 elsewhere; from `CONSIDERED_OPERATIONS`
    operations on, in the precision of `host_precision` on a CPU. A training of at least `MEASURED_STEPS` steps and
    `MEASURED_OPERATIONS` operations, which are counted, so that no clock decides whether it is measured, times a few
    steps with each candidate on a copy: `network`, its gradients and the random state stay as they are. A candidate
    replaces the default if it is faster by `MARGIN`. Timings are kept for this processor, number of threads, network
    and batch, in the user's cache and in `state`, and not repeated.

    torch.compile is tried where a training takes over 20 minutes and has no unfreezing, after each of which it would
    compile anew, and used if it saves more than it costs. Where it fails, the training runs uncompiled, with a warning.

    Processes that train together all use the choice of the first one.

    Args:
        example: a micro-batch of inputs of stage `start`, on the device of the training.
        steps: how many micro-batches the training has.
        state: keeps the choice besides the user's cache, which a pod loses.
    """
    group = current_group()
    chosen = _choose(Step(network, example, start), plan, steps, state) if group.rank == 0 else Speed()
    return Speed(**group.share(asdict(chosen)))


def _choose(step: Step, plan: "Plan", steps: int, state: State | None) -> Speed:
    device = step.example.device
    if device.type == "mps" and plan.precision == "bf16":
        raise InputError("training.precision is bf16, which is not used on Apple's GPU; set auto or fp32.")
    candidates = [
        Speed(precision, layout == "channels_last")
        for precision, layout in product(
            precisions(device) if plan.precision == "auto" else [plan.precision],
            ["contiguous", "channels_last"] if plan.layout == "auto" else [plan.layout],
        )
    ]
    # After each unfreezing the network would be compiled anew.
    may_compile = plan.compile == "auto" and not plan.unfreeze_every and _has_compiler(device)
    work = steps * step_flops(step.network, step.example, step.start) if len(candidates) > 1 or may_compile else 0
    default = _default_precision(device, work, state)
    # On one core convnet at 32 px, in batches of 32 and 64, is 17% and 28% faster in channels_last than in contiguous.
    # Where the plan pins a part, the default keeps the rest of it.
    chosen = max(candidates, key=lambda speed: (speed.precision == default, speed.channels_last))
    if work >= MEASURED_OPERATIONS and steps >= MEASURED_STEPS:
        found = _timed_steps(step, candidates, state)
        chosen = _fastest(found.seconds, chosen)
        log.info("The training computes in %s; %s", chosen, found)
        if may_compile and found.seconds.get(chosen, 0.0) * steps >= _COMPILED_SECONDS:
            return _try_compiled(chosen, lambda pair: _pays(_timed_steps(step, pair, state), pair, steps))
    if plan.compile == "on":
        return _try_compiled(chosen, lambda pair: bool(time_steps(step, pair[1:], rounds=0)))
    return chosen


def precisions(device: torch.device) -> list[str]:
    """The number formats that the device has instructions for: fp32 always, then bf16."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "mps":
        # Which releases of macOS compute in it, torch does not tell.
        supported = False
    else:
        # Elsewhere oneDNN has no kernels for it, and what takes their place is slower by orders of magnitude.
        supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ["fp32", "bf16"] if supported else ["fp32"]


def host_precision(device: torch.device, state: State | None) -> str:
    """The precision in which this machine is faster at a convolution of a medium size, forward, by `MARGIN` at least.

    It is timed once, in less than a tenth of a second, and kept as `choose_speed` keeps its timings.
    """
    candidates = _forward_candidates(device)
    found = timed_once(["convolution"], device, candidates, lambda: time_convolution(device, candidates), state)
    return _fastest(found.seconds, candidates[0]).precision


def forward_precision(network: torch.nn.Module, example: Inputs, state: State | None, *, measure: bool) -> str | None:
    """The precision in which `network` is faster, forward and by `MARGIN` at least, on inputs such as `example`.

    It is timed once on a copy, and kept as `choose_speed` keeps its timings; None if it was not and `measure` is false.
    """
    device = next(network.parameters()).device
    candidates = _forward_candidates(device)
    subject = [described(network), list(example.shape), "forward"]
    if not measure and kept_timings(subject, device, candidates) is None:
        return None

    def timed() -> Timings:
        return time_forward(copy.deepcopy(network).eval(), example.to(device), candidates)

    return _fastest(timed_once(subject, device, candidates, timed, state).seconds, candidates[0]).precision


def _default_precision(device: torch.device, work: float, state: State | None) -> str:
    if device.type != "cpu":
        return precisions(device)[-1]
    return host_precision(device, state) if work >= CONSIDERED_OPERATIONS else "fp32"


def _forward_candidates(device: torch.device) -> list[Speed]:
    return [Speed(precision, channels_last=True) for precision in precisions(device)]


def _timed_steps(step: Step, candidates: Sequence[Speed], state: State | None) -> Timings:
    subject = [described(step.network), step.start, list(step.example.shape)]
    return timed_once(subject, step.example.device, candidates, lambda: time_steps(step, candidates), state)


def _fastest(seconds: Mapping[Speed, float], default: Speed) -> Speed:
    best = min(seconds, key=lambda speed: seconds[speed], default=default)
    return best if seconds.get(best, 0.0) < (1 - MARGIN) * seconds.get(default, math.inf) else default


def _has_compiler(device: torch.device) -> bool:
    if device.type == "mps":
        return False
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def _try_compiled(chosen: Speed, pays: Callable[[list[Speed]], bool]) -> Speed:
    """`chosen`, compiled if `pays` says so of both; uncompiled, with a warning, if the compiler fails in it."""
    pair = [chosen, replace(chosen, compiled=True)]
    try:
        return pair[pays(pair)]
    # A compiler of another project raises errors of any type.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        log.warning("torch.compile failed (%s: %s); the training runs uncompiled.", type(error).__name__, reason)
        return chosen


def _pays(found: Timings, pair: list[Speed], steps: int) -> bool:
    """Whether compiling saves more seconds in `steps` steps than it took to try."""
    chosen, compiled = pair
    saved = (found.seconds[chosen] - found.seconds.get(compiled, math.inf)) * steps
    pays = _fastest(found.seconds, chosen) == compiled and saved > found.cost
    log.info("The training %s compiled, which took %.0f s to try; %s", "is" if pays else "is not", found.cost, found)
    return pays
