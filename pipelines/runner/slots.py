"""How many steps run at once on this machine, and with how many threads each.

A step's results depend on its number of threads in their last digits, so it depends on the machine and the package
alone, never on what happens to run beside it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# Free memory that a step is started beside another with: what torch, mlflow and a small network take.
_ROOM = 1_000_000_000
_CGROUP = Path("/sys/fs/cgroup")


class Slots:
    """Turns for steps, first come first served: `at_once` at most, and beside another only with memory to spare."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._taken = 0
        self._queue: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn and keep it for the length of the body."""
        me = object()
        with self._changed:
            self._queue.append(me)
            # Memory is freed without a notice.
            while not (self._queue[0] is me and self._has_room()):
                self._changed.wait(timeout=1.0)
            self._queue.pop(0)
            self._taken += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()

    def _has_room(self) -> bool:
        if not self._taken:
            return True
        return self._taken < self._at_once and _free_memory() > _ROOM


def _free_memory() -> int:
    """Bytes that this machine and the limit of this process's container leave (cgroup version 2)."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    # No container, or one without a limit: "max".
    except (OSError, ValueError):
        return free
    return min(free, limit - used)
