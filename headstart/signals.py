"""Signals whose handlers raise."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def exiting_when_terminated() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit, so that what is terminated still ends what it began. Only the main thread gets
    it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with none_dropped(signal.SIGTERM, SystemExit):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def none_dropped(number: signal.Signals, raised: type[BaseException]) -> Iterator[None]:
    """Sends the signal `number`, whose handler raises `raised`, once more where Python dropped that.

    Python drops whatever is raised while an object is finalised; it befell one in 2000 SIGINT.
    """
    before, main = sys.unraisablehook, threading.main_thread().ident

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if main and isinstance(what.exc_value, raised):
            # A moment later: from here it would be dropped again.
            threading.Timer(0.05, signal.pthread_kill, (main, number)).start()
        else:
            before(what)

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = before
