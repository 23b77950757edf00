"""`run_package`: a compiled pipeline on this machine."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from headstart.data.parallel import processors
from headstart.errors import HeadstartError, InputError
from headstart_pipelines.runner.artifact import runs_behind
from headstart_pipelines.runner.graph import Call, Graph, Outputs, StepFailedError, count_steps
from headstart_pipelines.runner.interruption import in_thread, interruptible
from headstart_pipelines.runner.journal import Journal
from headstart_pipelines.runner.package import Package, threads_of
from headstart_pipelines.runner.processes import Step
from headstart_pipelines.runner.slots import Slots
from headstart_pipelines.runner.step_cache import StepCache
from headstart_pipelines.step_kinds import LIGHT_STEPS

AT_ONCE_VARIABLE = "HEADSTART_STEPS_AT_ONCE"


class Steps(Protocol):
    """A way to run steps: as processes, as containers."""

    def run(self, step: Step, read: Callable[[str], None]) -> int:
        """Run a step, call `read` with each line that it writes, and return its exit status."""

    def stop(self) -> None:
        """End the steps that run and start no other; a second call does it by force."""


@dataclass(frozen=True)
class Ended:
    """A run that succeeded: the pipeline's outputs, and the names of the steps that were taken over."""

    outputs: Outputs
    reused: tuple[str, ...]


@dataclass(frozen=True)
class _Carrier:
    """Runs the calls of one graph as steps."""

    package: Package
    steps: Steps
    cache: StepCache
    journal: Journal
    slots: Slots
    threads: Mapping[str, int]
    environment: Mapping[str, str]
    image: str | None = None

    def run(self, call: Call) -> Outputs:
        container = self.package.container(call.spec)
        if self.image:
            container = {**container, "image": self.image}
        own = {each["name"]: each.get("value", "") for each in container.get("env", ())}
        environment = {**own, **self.environment}
        command = [*container.get("command", ()), *container.get("args", ())]
        if not call.is_wanted():
            raise StepFailedError("The run has ended before this step began.")
        key = self.cache.compute_key(call.component, container["image"], command, call.given, environment)
        if call.cached and (kept := self.cache.get(key)) is not None:
            self.journal.take_over(call.key, call.name, runs_behind(kept))
            return kept
        with self.slots.turn():
            if not call.is_wanted():
                raise StepFailedError("The run has ended before this step began.")
            entry = self.journal.step(call.key, call.name)
            given = call.message()
            self.journal.say(f"Executor input: {json.dumps(given)}", call.name)
            call.folder.mkdir(parents=True)
            step = Step(container, given, environment, self.threads[call.component], call.folder)
            status = self.steps.run(step, entry.read)
            try:
                outputs = call.made() if status == 0 else {}
            except HeadstartError as error:
                entry.read(f"HeadstartError: {error}")
                status = 1
            entry.end(status)
        if status != 0:
            raise StepFailedError(f"{call.name} failed.")
        if call.cached:
            self.cache.put(key, outputs)
        return outputs


def run_package(
    package: Package,
    arguments: Mapping[str, Any],
    workspace: Path,
    steps: Steps,
    journal: Journal,
    *,
    environment: Mapping[str, str] | None = None,
    image: str | None = None,
) -> Ended:
    """Run a compiled pipeline on this machine; steps that do not depend on each other run side by side.

    Args:
        arguments: the pipeline's parameters.
        workspace: an absolute path. What steps make is kept in pipeline/ below it, what may be taken over in cache/.
        steps: runs them.
        journal: is told what they write and how they end.
        environment: variables of every step; they are part of the key by which results are taken over.
        image: of every step; None for those that the package names.

    Raises:
        InputError: an argument is missing or unknown, or the package has what a local run does not know.
        StepFailedError: a step failed; `journal.explain` says which and why.
        KeyboardInterrupt: the run was interrupted; its steps have ended.
    """
    at_once = steps_at_once()
    threads = threads_of(package, processors(), at_once, LIGHT_STEPS)
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if given.isdecimal() and int(given) > 0:
        threads = dict.fromkeys(threads, int(given))
    carrier = _Carrier(package, steps, StepCache(workspace), journal, Slots(at_once), threads, environment or {}, image)
    name = f"{package.name}-{datetime.now():%Y-%m-%d-%H-%M-%S-%f}"
    graph = Graph(package, workspace / "pipeline" / name, carrier.run)
    journal.begin(package.name, count_steps(package, arguments))

    def stop() -> None:
        journal.interrupt()
        graph.stop()
        steps.stop()

    with interruptible(stop):
        return Ended(in_thread(lambda: graph.carry_out(arguments)), tuple(journal.reused))


def steps_at_once() -> int:
    """The number of steps that may run at once: HEADSTART_STEPS_AT_ONCE, else one for each two processors, two at
    least where there are two; one where a GPU is seen, whose memory they would share.

    Raises:
        InputError: the variable is no whole number above 0.
    """
    if given := os.environ.get(AT_ONCE_VARIABLE, ""):
        if not given.isdecimal() or int(given) == 0:
            raise InputError(f"{AT_ONCE_VARIABLE} is {given}, which is no whole number above 0; give one, or unset it.")
        return int(given)
    cores = processors()
    return 1 if _sees_gpu() else min(cores, max(2, cores // 2))


def _sees_gpu() -> bool:
    """Whether steps will find a GPU; asks the driver without torch, as nothing may touch a GPU before a fork."""
    import pynvml

    # Empty, or an invalid first entry, hides all.
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0")[:1] in ("", "-"):
        return False
    try:
        pynvml.nvmlInit()
        try:
            return bool(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
