"""Steps as processes on this machine: forked from a warm one that has imported everything, or started fresh."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from headstart_pipelines.runner.package import Values, function_of

_TERMINATED = 128 + signal.SIGTERM
_MODULE = "headstart_components.warm"
# The answer about a step whose warm process has ended, most likely killed, and its steps' statuses with it.
_LOST = {"status": -signal.SIGKILL}
# A process that is to be forked has one thread: none of OpenMP's, of OpenBLAS's, of the allocator's that Arrow brings.
SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
# Of what a person who runs out of memory is told; a step's reason is its last exception.
_KILLED = "MemoryError: the step was killed, most likely because memory ran out."


@dataclass(frozen=True)
class Step:
    """One execution of a container.

    Args:
        container: as the package has it.
        given: the executor input, in JSON values.
        environment: variables beside this process's.
        threads: how many it computes with.
        folder: where it writes what it makes; it exists.
    """

    container: Values
    given: Values
    environment: Mapping[str, str]
    threads: int
    folder: Path

    def request(self) -> dict[str, Any]:
        """What headstart_components.warm is told."""
        module, function = function_of(self.container)
        environment = {**os.environ, **self.environment, "OMP_NUM_THREADS": str(self.threads)}
        return {
            "module": module,
            "function": function,
            "input": self.given,
            "threads": self.threads,
            "environment": environment,
        }


@dataclass
class _Running:
    """A running step: the leader of a process group, which a signal reaches as a whole."""

    group: int | None = None
    ended: bool = False


class Processes:
    """Runs steps as processes; `stop` ends them.

    Args:
        forking: whether steps are forked from a warm process; None where that is safe, which is on Linux.
        modules: what the warm process imports; by default all that headstart's own steps need.
    """

    def __init__(self, *, forking: bool | None = None, modules: Sequence[str] = ()) -> None:
        self._warm = _Warm(modules) if (sys.platform == "linux" if forking is None else forking) else None
        self._running: list[_Running] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *ended: object) -> None:
        if self._warm:
            self._warm.close()

    def run(self, step: Step, read: Callable[[str], None]) -> int:
        """Run a step, call `read` with each line that it writes, and return its exit status."""
        running = _Running()
        with self._lock:
            if self._stopped:
                return _TERMINATED
            self._running.append(running)
        try:
            status = (self._warm.run if self._warm else _run_fresh)(step.request(), read, self._known(running))
        finally:
            with self._lock:
                running.ended = True
                self._running.remove(running)
        if status == -signal.SIGKILL and not self._stopped:
            read(_KILLED)
        return status

    def _known(self, running: _Running) -> Callable[[int], None]:
        def known(group: int) -> None:
            with self._lock:
                running.group = group
                if self._stopped:
                    _signal(running, signal.SIGTERM)

        return known

    def stop(self) -> None:
        """Terminate the steps that run, which then end their MLflow runs; kill them when called again.

        Not SIGINT: what a shell starts in the background ignores that, and so would the step.
        """
        number = signal.SIGKILL if self._stopped else signal.SIGTERM
        self._stopped = True
        for running in list(self._running):
            _signal(running, number)


def _signal(running: _Running, number: int) -> None:
    if running.group and not running.ended:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                os.killpg(running.group, number)
            except ProcessLookupError:
                # Forked a moment ago, it leads no group yet; it is alone then.
                os.kill(running.group, number)


def _run_fresh(request: Mapping[str, Any], read: Callable[[str], None], known: Callable[[int], None]) -> int:
    """Run a step in a process that starts from nothing."""
    with subprocess.Popen(
        # -P keeps modules in the user's working directory from being imported.
        [sys.executable, "-u", "-P", "-m", _MODULE, "fresh"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=request["environment"],
        # A group of its own: a signal then reaches the step and its children, and only when it is meant to.
        start_new_session=True,
    ) as process:
        known(process.pid)
        with contextlib.suppress(BrokenPipeError), cast(TextIO, process.stdin) as told:
            told.write(json.dumps(request))
        for line in cast(TextIO, process.stdout):
            read(line)
        return process.wait()


@dataclass
class _Warm:
    """The warm process, started at once so that it imports while this one is still preparing."""

    modules: Sequence[str] = ()
    _answers: dict[int, "queue.SimpleQueue[dict[str, Any]]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _gone: bool = False

    def __post_init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-P", "-m", _MODULE, "fork", str(theirs.fileno()), *self.modules],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **SINGLE_THREADED},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self, request: Mapping[str, Any], read: Callable[[str], None], known: Callable[[int], None]) -> int:
        """Run a step in a process that is forked from the warm one."""
        number = id(request)
        with self._lock:
            answers = self._answers[number] = queue.SimpleQueue()
            if self._gone:
                answers.put(_LOST)
        try:
            with self._asked({**request, "id": number}) as output:
                started = answers.get()
                if "pid" in started:
                    known(started["pid"])
                for line in output:
                    read(line)
            return int((answers.get() if "pid" in started else started)["status"])
        finally:
            with self._lock:
                del self._answers[number]

    @contextlib.contextmanager
    def _asked(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Send a request; yield what the step writes, line by line."""
        reading, writing = os.pipe()
        content = os.memfd_create("request")
        try:
            with open(content, "wb", closefd=False) as file:
                file.write(json.dumps(request).encode())
            with self._lock, contextlib.suppress(OSError):
                socket.send_fds(self._control, [b"r"], [writing, content])
        finally:
            os.close(writing)
            os.close(content)
        with open(reading, encoding="utf-8", errors="replace") as output:
            yield output

    def _listen(self) -> None:
        """Hand each answer to whoever waits for it; if the warm process is gone, all steps are."""
        with self._control.makefile("r", encoding="utf-8") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                answer = json.loads(line)
                with self._lock:
                    waiting = self._answers.get(answer["id"])
                if waiting:
                    waiting.put(answer)
        with self._lock:
            self._gone = True
            left = list(self._answers.values())
        for waiting in left:
            waiting.put(_LOST)

    def close(self) -> None:
        """End the warm process."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._control.close()
