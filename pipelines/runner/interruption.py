"""The end of a run by a signal."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Make SIGINT, SIGTERM and the SIGHUP of a terminal that is closed call `stop` and then raise KeyboardInterrupt.

    Outside of the main thread, which alone gets signals, they are left as they are.

    What was interrupted ends with KeyboardInterrupt also where that got lost on its way: Python drops what is raised
    while an object is finalised, and the run then sees no more than a step that failed.
    """
    interrupted = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal interrupted
        interrupted = True
        try:
            stop()
        finally:
            raise KeyboardInterrupt

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        # nohup has it ignored.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        handlers = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if interrupted:
        raise KeyboardInterrupt
