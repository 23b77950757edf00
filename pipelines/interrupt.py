"""Ctrl-C and termination while a pipeline runs here: what runs is ended, and nothing starts any more."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Protocol


class Stoppable(Protocol):
    """What runs a pipeline's steps."""

    def stop(self) -> None:
        """Ends the step that runs and starts no other; a second call does it by force."""


@contextlib.contextmanager
def stopped_when_interrupted(steps: Stoppable) -> Iterator[None]:
    """Stops `steps` on SIGINT or SIGTERM and then raises KeyboardInterrupt.

    Stopping comes first: kfp.local runs the strategies in a thread that goes on with the next one, and waits for it,
    also when the main thread was interrupted. Outside of the main thread, which alone gets signals, nothing changes.
    """

    def interrupt(number: int, frame: Any) -> None:
        steps.stop()
        raise KeyboardInterrupt

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
