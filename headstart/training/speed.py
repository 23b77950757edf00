"""How the steps of a training are computed: number format, memory layout, compiled or not.

What is fastest depends on the processor and the network, so a few timed steps choose, once for a host and a network.
None of it changes what a training is, beyond rounding: weights, gradients, optimiser and losses stay in float32.
"""

import copy
import hashlib
import importlib.util
import json
import logging
import math
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from headstart.errors import HeadstartError
from headstart.models.network import Network, evaluated
from headstart.storage.local import user_cache, write_json
from headstart.storage.state import State
from headstart.training.distributed import current_group

if TYPE_CHECKING:
    from headstart.training.plan import Plan

log = logging.getLogger(__name__)

# A training of less work than this takes the default. Convnet at 32 px makes 5e10 operations a second on one core, so
# this is over a minute of it, and eight times what the demo's source takes; measuring takes 8 to 24 steps.
MEASURED_OPERATIONS = 4e12
MEASURED_STEPS = 100
# From here on, 20 s of that core, the default is in the precision in which a convolution is faster on this machine.
CONSIDERED_OPERATIONS = 1e12
# What is chosen instead of the default is faster than it by this share at least; less is noise.
MARGIN = 0.1
_ROUNDS = 5
# Steps shorter than this are timed several at once.
_TIMED_SECONDS = 0.05
# A candidate that is this much slower than the best in the first round is timed no further.
_HOPELESS = 1.5
# Compiling takes a minute or more on a core; a training that takes less than this is not worth the trial.
_COMPILED_SECONDS = 1200.0

_FOLDER = "speed"


@dataclass(frozen=True)
class Speed:
    """`precision` is fp32 or bf16; images lie in memory pixel by pixel where `channels_last`, else plane by plane."""

    precision: str = "fp32"
    channels_last: bool = False
    compiled: bool = False

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of the forward pass: operations that are safe in bfloat16 run in it, where that is the precision.

        Backward and the optimiser stay outside, and so do losses and penalties, on outputs made `.float()`.
        """
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def prepare(self, network: torch.nn.Module) -> None:
        """Lays the weights of convolutions out in place; the parameters stay the same objects.

        It comes before the first step: an optimiser's state takes over the layout of the parameters.
        """
        network.to(memory_format=self._memory_format)  # type: ignore[call-overload]

    def laid_out(self, inputs: Tensor) -> Tensor:
        """`inputs` in the same layout, where they are images or feature maps (N, C, H, W); no copy if they are so."""
        return inputs.contiguous(memory_format=self._memory_format) if inputs.ndim == 4 else inputs

    def activations(self, network: Network) -> Callable[[Tensor, int], list[Tensor]]:
        """`network.activations`, compiled or not; the network and the names of its state stay as they are.

        A training that was compiled may go on, from its checkpoint, on a machine without a compiler.
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
    network: Network, example: Tensor, *, start: int, plan: "Plan", steps: int, state: State | None
) -> Speed:
    """What `plan` pins, and for the rest what is fastest here for steps like this one.

    The default is channels_last, in bf16 on GPUs that compute in it and in fp32 elsewhere; from `CONSIDERED_OPERATIONS`
    operations on, in what `host_precision` finds on a CPU. A training of at least `MEASURED_STEPS` steps and
    `MEASURED_OPERATIONS` operations, which are counted, so that no clock decides whether it is measured, times a few
    steps with each candidate on a copy: `network`, its gradients and the random state stay as they are. A candidate
    takes the place of the default if it is faster by `MARGIN`. What was found is kept for this processor, number of
    threads, network and batch, in the user's cache and in `state`, and not measured again.

    torch.compile is tried where a training takes over 20 minutes and has no unfreezing, after each of which it would
    compile anew, and used if it saves more than it costs. Where it fails, the training runs uncompiled, with a warning.

    Processes that train together do what the first one finds.

    Args:
        example: what stage `start` reads: a micro-batch, on the device of the training.
        steps: how many micro-batches the training has.
        state: where the choice is kept besides the user's cache, which a pod loses.
    """
    group = current_group()
    chosen = _choose(network, example, start, plan, steps, state) if group.rank == 0 else Speed()
    return Speed(**group.share(asdict(chosen)))


def operations(network: Network, example: Tensor, start: int) -> int:
    """The floating-point operations of the matrix products and convolutions of a step, found by computing one row
    forward.

    A multiplication and its addition are two. Backward counts as twice forward, whose products it has two of each of
    (torch's own count of it takes a grouped convolution for a full one).
    """
    # In eval mode, where the products are the same: batch norms of several processes would wait for each other.
    with evaluated(network):
        forward, _ = counted(lambda: network.classify(network.activations(example[:1], start)[-1]))
    return 3 * len(example) * forward


def counted(compute: Callable[[], Tensor]) -> tuple[int, Tensor]:
    """The floating-point operations of the matrix products and convolutions of `compute`, and what it gives."""
    # Without gradients a transformer's layer is one operation, which is not counted, and so is fused attention.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
        outputs = compute()
    return counter.operations, outputs


class _Counter(TorchDispatchMode):
    """Counts by torch's own formulas, as its FlopCounterMode does, without its imports and its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled within it; to make sure of that, torch would import its compiler, which takes a second.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula:
            self.operations += int(formula(*args, **kwargs, out_val=outputs))
        return outputs


def _choose(network: Network, example: Tensor, start: int, plan: "Plan", steps: int, state: State | None) -> Speed:
    candidates = [
        Speed(precision, layout == "channels_last")
        for precision, layout in product(
            precisions(example.device) if plan.precision == "auto" else [plan.precision],
            ["contiguous", "channels_last"] if plan.layout == "auto" else [plan.layout],
        )
    ]
    # After each unfreezing the network would be compiled anew.
    may_compile = plan.compile == "auto" and not plan.unfreeze_every and _has_compiler(example.device)
    work = steps * operations(network, example, start) if len(candidates) > 1 or may_compile else 0
    default = _default(example.device, work, state)
    # Where the plan pins a part, the default is what keeps the rest of it.
    chosen = max(candidates, key=lambda speed: (speed.precision == default.precision, speed.channels_last))
    if work >= MEASURED_OPERATIONS and steps >= MEASURED_STEPS:
        found = _timed_steps(network, example, start, candidates, state)
        chosen = _fastest(found.seconds, chosen)
        log.info("The training computes in %s; %s", chosen, found)
        if may_compile and found.seconds.get(chosen, 0.0) * steps >= _COMPILED_SECONDS:
            return _compiled_if_it_pays(network, example, start, chosen, steps, state)
    if plan.compile == "on":
        return _compiled_if_possible(network, example, start, chosen)
    return chosen


def precisions(device: torch.device) -> list[str]:
    """The number formats that the device has instructions for: fp32 always, then bf16."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Elsewhere oneDNN has no kernels for it, and what takes their place is slower by orders of magnitude.
        supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ["fp32", "bf16"] if supported else ["fp32"]


def _default(device: torch.device, work: float, state: State | None) -> Speed:
    # On one core convnet at 32 px, in batches of 32 and 64, is 17% and 28% faster in channels_last than in contiguous.
    if device.type == "cuda":
        return Speed(precisions(device)[-1], channels_last=True)
    precision = host_precision(device, state) if work >= CONSIDERED_OPERATIONS else "fp32"
    return Speed(precision, channels_last=True)


def host_precision(device: torch.device, state: State | None) -> str:
    """The precision in which this machine is faster at a convolution of a medium size, forward, by `MARGIN` at least.

    It is timed once, in less than a tenth of a second, and kept as `choose_speed` keeps what it measures.
    """
    candidates = _forward_candidates(device)
    content = [_machine(device), "convolution"]
    found = _timed_once(content, candidates, lambda: _timed_convolution(device, candidates), state)
    return _fastest(found.seconds, candidates[0]).precision


def forward_precision(
    network: torch.nn.Module, shape: Sequence[int], state: State | None, *, measure: bool
) -> str | None:
    """The precision in which `network` is faster, forward and by `MARGIN` at least, on inputs of `shape`.

    It is timed once on a copy, and kept as `choose_speed` keeps what it measures; where it was not and `measure` is
    false, None.
    """
    device = next(network.parameters()).device
    candidates = _forward_candidates(device)
    content = [_machine(device), _described(network), list(shape), "forward"]
    found = _kept(_digest(content, candidates), candidates, None)
    if found is None and not measure:
        return None

    def timed() -> _Timings:
        return _timed_forward(copy.deepcopy(network).eval(), torch.zeros(*shape, device=device), candidates)

    found = _timed_once(content, candidates, timed, state)
    return _fastest(found.seconds, candidates[0]).precision


def _forward_candidates(device: torch.device) -> list[Speed]:
    return [Speed(precision, channels_last=True) for precision in precisions(device)]


def _has_compiler(device: torch.device) -> bool:
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def _fastest(seconds: Mapping[Speed, float], default: Speed) -> Speed:
    best = min(seconds, key=lambda speed: seconds[speed], default=default)
    return best if seconds.get(best, 0.0) < (1 - MARGIN) * seconds.get(default, math.inf) else default


# Compiling.


def _compiled_if_it_pays(
    network: Network, example: Tensor, start: int, chosen: Speed, steps: int, state: State | None
) -> Speed:
    compiled = replace(chosen, compiled=True)
    try:
        found = _timed_steps(network, example, start, [chosen, compiled], state)
    # What a compiler of another project stumbles on is of no one type.
    except Exception as error:
        _warn_of_compiler(error)
        return chosen
    saved = (found.seconds[chosen] - found.seconds.get(compiled, math.inf)) * steps
    pays = _fastest(found.seconds, chosen) == compiled and saved > found.cost
    log.info("The training %s compiled, which took %.0f s to try; %s", "is" if pays else "is not", found.cost, found)
    return compiled if pays else chosen


def _compiled_if_possible(network: Network, example: Tensor, start: int, chosen: Speed) -> Speed:
    compiled = replace(chosen, compiled=True)
    try:
        _measured(network, example, start, [compiled], rounds=0)
    except Exception as error:
        _warn_of_compiler(error)
        return chosen
    return compiled


def _warn_of_compiler(error: Exception) -> None:
    reason = str(error).strip().partition("\n")[0]
    log.warning("torch.compile failed (%s: %s); the training runs uncompiled.", type(error).__name__, reason)


# Measuring.


@dataclass(frozen=True)
class _Timings:
    """Seconds a step of each candidate that could be run, and the seconds that finding them took."""

    seconds: dict[Speed, float]
    cost: float

    def __str__(self) -> str:
        return ", ".join(f"{speed}: {1000 * seconds:.3g} ms a step" for speed, seconds in self.seconds.items())


def _measured(
    network: Network, example: Tensor, start: int, candidates: Sequence[Speed], rounds: int = _ROUNDS
) -> _Timings:
    """Times whole steps of a copy of `network`, the candidates in turn, so that other work on the machine hits all."""
    begin = time.perf_counter()
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):
        trial = _Trial(network, example, start)
        # The first step makes kernels, and says how many a measurement takes to be longer than the clock's noise.
        first = {speed: trial.seconds(speed) for speed in candidates}
        left = [speed for speed in candidates if math.isfinite(first[speed])]
        times: dict[Speed, list[float]] = {speed: [] for speed in left}
        count = min(max(1, math.ceil(_TIMED_SECONDS / min(first.values()))), 20)
        for _ in range(rounds):
            for speed in left:
                times[speed].append(trial.seconds(speed, count))
            best = min((min(times[speed]) for speed in left), default=math.inf)
            left = [speed for speed in left if min(times[speed]) <= _HOPELESS * best]
    seconds = {speed: statistics.median(values) for speed, values in times.items() if values}
    return _Timings(seconds, time.perf_counter() - begin)


def _timed_convolution(device: torch.device, candidates: Sequence[Speed]) -> _Timings:
    with torch.random.fork_rng(devices=[]):
        convolution = torch.nn.Conv2d(128, 128, 3, padding=1, device=device)
        return _timed_forward(convolution, torch.randn(4, 128, 28, 28, device=device), candidates)


def _timed_forward(network: torch.nn.Module, inputs: Tensor, candidates: Sequence[Speed]) -> _Timings:
    """Times `network`, which is laid out for the candidates, on `inputs`; they all have the same layout."""
    begin = time.perf_counter()
    seconds = dict.fromkeys(candidates, math.inf)
    candidates[0].prepare(network)
    inputs = candidates[0].laid_out(inputs)
    with torch.inference_mode():
        # The first round makes the kernels; the least of the rest is what other work on the machine disturbs least.
        for number in range(4):
            for speed in candidates:
                start = time.perf_counter()
                with speed.autocast(inputs.device):
                    network(inputs)
                _wait_for(inputs.device)
                if number:
                    seconds[speed] = min(seconds[speed], time.perf_counter() - start)
    timings = _Timings(seconds, time.perf_counter() - begin)
    log.info("Forward alone takes here: %s", timings)
    return timings


class _Trial:
    """A copy of a network in training, in one layout after the other."""

    def __init__(self, network: Network, example: Tensor, start: int) -> None:
        self._network = copy.deepcopy(network).train()
        self._example, self._start = example, start
        self._labels = torch.zeros(len(example), dtype=torch.int64, device=example.device)
        trained = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.SGD(trained, lr=1e-6)

    def seconds(self, speed: Speed, count: int = 1) -> float:
        """Seconds a step, the mean of `count`; infinite where the device's memory does not hold one."""
        device = self._example.device
        try:
            speed.prepare(self._network)
            inputs = speed.laid_out(self._example)
            activations = speed.activations(self._network)
            _wait_for(device)
            begin = time.perf_counter()
            for _ in range(count):
                with speed.autocast(device):
                    logits = self._network.classify(activations(inputs, self._start)[-1])
                F.cross_entropy(logits.float(), self._labels).backward()
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
            _wait_for(device)
            return (time.perf_counter() - begin) / count
        except torch.OutOfMemoryError:
            self._optimizer.zero_grad(set_to_none=True)
            return math.inf


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# Keeping what was measured.

# For as long as the process lives, where nothing can be written.
_remembered: dict[str, _Timings] = {}


def _timed_steps(
    network: Network, example: Tensor, start: int, candidates: Sequence[Speed], state: State | None
) -> _Timings:
    content = [_machine(example.device), _described(network), start, list(example.shape)]
    return _timed_once(content, candidates, lambda: _measured(network, example, start, candidates), state)


def _timed_once(
    content: list[Any], candidates: Sequence[Speed], measure: Callable[[], _Timings], state: State | None
) -> _Timings:
    """What was measured here before for the candidates and `content`, which is all else that decides which of them is
    the fastest, by whichever process; measured now if none has."""
    key = _digest(content, candidates)
    found = _kept(key, candidates, state)
    if found is None:
        measured = measure()
        # Another process may have been at it: what is there first stays.
        found = _kept(key, candidates, state) or measured
        _keep(key, found, state)
    _remembered[key] = found
    return found


def _digest(content: list[Any], candidates: Sequence[Speed]) -> str:
    whole = [*content, [str(speed) for speed in candidates]]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]


def _described(network: torch.nn.Module) -> list[Any]:
    return [[name, list(parameter.shape), parameter.requires_grad] for name, parameter in network.named_parameters()]


def _machine(device: torch.device) -> list[str | int]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return [name, torch.get_num_threads(), torch.__version__]


def processor() -> str:
    """The model of the CPU, as the system names it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cache() -> Path | None:
    """The user's folder for what was measured."""
    home = user_cache()
    return home / _FOLDER if home else None


def _kept(key: str, candidates: Sequence[Speed], state: State | None) -> _Timings | None:
    if key in _remembered:
        return _remembered[key]
    if (cache := _cache()) and (found := _read(cache / f"{key}.json", candidates)):
        return found
    if state is None:
        return None
    with suppress(OSError, HeadstartError), state.draft() as file:
        if state.get(_name(key), file):
            return _read(file, candidates)
    return None


def _keep(key: str, found: _Timings, state: State | None) -> None:
    """Writes to the cache and to the state what they take; without either, this process remembers it."""
    content = {"seconds": {str(speed): value for speed, value in found.seconds.items()}, "cost": found.cost}
    if cache := _cache():
        with suppress(OSError):
            write_json(cache / f"{key}.json", content)
    if state is not None:
        with suppress(OSError, HeadstartError), state.draft() as file:
            write_json(file, content)
            state.put(file, _name(key))


def _read(file: Path, candidates: Sequence[Speed]) -> _Timings | None:
    names = {str(speed): speed for speed in candidates}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        seconds = {names[name]: float(value) for name, value in content["seconds"].items()}
        if not seconds or not all(value > 0 for value in seconds.values()):
            raise ValueError("no seconds")
        return _Timings(seconds, float(content["cost"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("What was measured before cannot be read from %s (%r); it is measured again.", file, error)
        return None


def _name(key: str) -> str:
    return f"{_FOLDER}/{key}.json"
