"""Timings of the ways to compute a step: measured once on a machine, and kept in the user's cache and in the state."""

import copy
import hashlib
import json
import logging
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from headstart.errors import HeadstartError
from headstart.modalities.batch import Inputs
from headstart.models.network import Network
from headstart.storage.local import user_cache, write_json
from headstart.storage.state import State

if TYPE_CHECKING:
    from headstart.training.speed import Speed

log = logging.getLogger(__name__)

_ROUNDS = 5
# Steps shorter than this are timed several at once.
_TIMED_SECONDS = 0.05
# A candidate that is this much slower than the best in the first round is timed no further.
_HOPELESS = 1.5

_FOLDER = "speed"
# For as long as the process lives, where nothing can be written.
_remembered: dict[str, "Timings"] = {}


@dataclass(frozen=True)
class Timings:
    """Seconds per step of each candidate that could be run, and the seconds that measuring them took."""

    seconds: "dict[Speed, float]"
    cost: float

    def __str__(self) -> str:
        return ", ".join(f"{speed}: {1000 * seconds:.3g} ms a step" for speed, seconds in self.seconds.items())


def timed_once(
    subject: Sequence[Any],
    device: torch.device,
    candidates: "Sequence[Speed]",
    measure: Callable[[], Timings],
    state: State | None,
) -> Timings:
    """The kept timings of the candidates; measured now if no process has done so on such a machine.

    Args:
        subject: JSON values: what is timed, as far as it decides which candidate is the fastest.
    """
    key = _key(subject, device, candidates)
    found = _kept(key, candidates, state)
    if found is None:
        measured = measure()
        # Another process may have measured meanwhile: what is kept first stays.
        found = _kept(key, candidates, state) or measured
        _keep(key, found, state)
    _remembered[key] = found
    return found


def kept_timings(subject: Sequence[Any], device: torch.device, candidates: "Sequence[Speed]") -> Timings | None:
    """What `timed_once` has kept outside of any state; None if it has nothing."""
    return _kept(_key(subject, device, candidates), candidates, None)


def described(network: torch.nn.Module) -> list[Any]:
    """What of a network decides its timings, as JSON values."""
    return [[name, list(parameter.shape), parameter.requires_grad] for name, parameter in network.named_parameters()]


def processor() -> str:
    """The model of the CPU, as the system names it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _key(subject: Sequence[Any], device: torch.device, candidates: "Sequence[Speed]") -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    name += " mps" if device.type == "mps" else ""
    machine = [name, torch.get_num_threads(), torch.__version__]
    whole = [machine, *subject, [str(speed) for speed in candidates]]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]


def _stores(state: State | None) -> list[State]:
    """The user's cache, if it can be written, and `state`."""
    stores = [] if state is None else [state]
    with suppress(OSError, HeadstartError):
        if home := user_cache():
            stores.insert(0, State(str(home)))
    return stores


def _kept(key: str, candidates: "Sequence[Speed]", state: State | None) -> Timings | None:
    if key in _remembered:
        return _remembered[key]
    name = f"{_FOLDER}/{key}.json"
    for store in _stores(state):
        with suppress(OSError, HeadstartError), store.draft() as file:
            if store.get(name, file) and (found := _read(file, candidates, store.folder / name)):
                return found
    return None


def _keep(key: str, found: Timings, state: State | None) -> None:
    content = {"seconds": {str(speed): value for speed, value in found.seconds.items()}, "cost": found.cost}
    for store in _stores(state):
        with suppress(OSError, HeadstartError), store.draft() as file:
            write_json(file, content)
            store.put(file, f"{_FOLDER}/{key}.json")


def _read(file: Path, candidates: "Sequence[Speed]", place: Path) -> Timings | None:
    names = {str(speed): speed for speed in candidates}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        seconds = {names[name]: float(value) for name, value in content["seconds"].items()}
        if not seconds or not all(value > 0 for value in seconds.values()):
            raise ValueError("no seconds")
        return Timings(seconds, float(content["cost"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("What was measured before cannot be read from %s (%r); it is measured again.", place, error)
        return None


@dataclass(frozen=True)
class Step:
    """A training step: `example` is a micro-batch of inputs of stage `start`, on the device of the training."""

    network: Network
    example: Inputs
    start: int


def time_steps(step: Step, candidates: "Sequence[Speed]", rounds: int = _ROUNDS) -> Timings:
    """Times whole steps of a copy of the network, the candidates in turn, so that other work on the machine hits all.

    The network, its gradients and the random state stay as they are.
    """
    begin = time.perf_counter()
    devices = [step.example.device] if step.example.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):
        trial = _Trial(step)
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
    return Timings(seconds, time.perf_counter() - begin)


def time_forward(network: torch.nn.Module, inputs: Inputs, candidates: "Sequence[Speed]") -> Timings:
    """Times the forward pass of `network`, whose memory format it changes; all candidates have the same one."""
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
    timings = Timings(seconds, time.perf_counter() - begin)
    log.info("Forward alone takes here: %s", timings)
    return timings


def time_convolution(device: torch.device, candidates: "Sequence[Speed]") -> Timings:
    """Times a convolution of a medium size, forward, in less than a tenth of a second."""
    with torch.random.fork_rng(devices=[]):
        convolution = torch.nn.Conv2d(128, 128, 3, padding=1, device=device)
        return time_forward(convolution, torch.randn(4, 128, 28, 28, device=device), candidates)


class _Trial:
    """A copy of a network in training, in one memory format after the other."""

    def __init__(self, step: Step) -> None:
        self._network = copy.deepcopy(step.network).train()
        self._example, self._start = step.example, step.start
        self._labels = torch.zeros(len(step.example), dtype=torch.int64, device=step.example.device)
        trained = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.SGD(trained, lr=1e-6)

    def seconds(self, speed: "Speed", count: int = 1) -> float:
        """Seconds per step, the mean of `count`; infinite where the device's memory does not hold one."""
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
    elif device.type == "mps":
        torch.mps.synchronize()
