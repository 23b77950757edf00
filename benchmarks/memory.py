"""What processes have in memory, as Linux counts it."""

import resource
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil

_SECONDS = 0.02


def tree_memory(process: int) -> int:
    """Bytes of a process and all that it has started: their proportional set sizes, in which a page that several
    processes share counts once in all."""
    total = 0
    try:
        top = psutil.Process(process)
        members = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in members:
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def peak_while(running: Future[Any], process: int) -> int:
    """Bytes, the most that `tree_memory` is found to be until `running` is done."""
    peak = tree_memory(process)
    while not running.done():
        time.sleep(_SECONDS)
        peak = max(peak, tree_memory(process))
    return peak


def peak_of_this_process() -> int:
    """Bytes, the most that this process has had in memory since the peak was last cleared, of all time where it cannot
    be cleared: its own pages, and those of files and libraries that it has mapped. (Of a process that another one
    started, `ru_maxrss` would be that one's peak if it is larger.)"""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
