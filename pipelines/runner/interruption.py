"""The end of a run by a signal."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_Result = TypeVar("_Result")


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


def in_thread(work: Callable[[], _Result]) -> _Result:
    """Do `work` in a thread, so that a signal finds this one waiting; wait for its end also after an interrupt."""
    found: list[_Result] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        # What it starts must listen to signals.
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            found.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    # A signal that comes while the thread starts would leave nobody who waits for it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    threading.Thread(target=run, daemon=True).start()
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # Not by the thread's own `join`: where a signal interrupts that, Python 3.11 takes the thread for ended.
            ended.wait()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt:
        raise interrupt
    if errors:
        raise errors[0]
    return found[0]
