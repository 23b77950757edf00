"""Threads: how many there may be, and their results in order."""

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time in a period, and the period's."""


@functools.cache
def processors() -> int:
    """The number of processors that this process may use: of the machine's, those that its affinity and the limit of
    its container leave it (cgroup version 2, cpu.max; os.cpu_count knows neither)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _LIMIT.read_text().split()
        limit = math.ceil(int(quota) / int(period))
    # No container, or one without a limit: "max".
    except (OSError, ValueError):
        return allowed
    return max(1, min(allowed, limit))


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item], *, ahead: int
) -> Iterator[_Result]:
    """The results of a function in the order of its arguments; those of `ahead` items at most are under way or wait to
    be taken."""
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
