"""Signals whose handlers raise."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# A signal that is sent from where the first was lost would be lost there, too.
_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def exiting_when_terminated() -> Iterator[None]:
    """Makes SIGTERM, and SIGHUP of a terminal that is closed, raise SystemExit, so that what is terminated still ends
    what it began."""
    with (
        raising(signal.SIGTERM, SystemExit, 128 + signal.SIGTERM),
        raising(signal.SIGHUP, SystemExit, 128 + signal.SIGHUP),
    ):
        yield


@contextlib.contextmanager
def raising(number: signal.Signals, kind: type[BaseException], *arguments: object) -> Iterator[None]:
    """Makes the signal `number` raise `kind(*arguments)`; one that is ignored still is. Only the main thread gets it.

    A block to which the signal was sent ends so even where that exception got lost on its way. Python drops what is
    raised while an object is finalised, which befell one in 2000 SIGINT, and a library in C may put an error of its
    own in its place, as torch does while it reads the shape of a storage. One that is lost is raised again a moment
    later, and an error that leaves the block instead becomes its cause.
    """
    # None is a handler that Python did not set and could not set again.
    unchanged = signal.getsignal(number) in (None, signal.SIG_IGN)
    if unchanged or threading.current_thread() is not threading.main_thread():
        yield
        return
    main = threading.get_ident()
    timers: list[threading.Timer] = []
    sent = left = False

    class Raised(kind):  # type: ignore[valid-type,misc]
        def __del__(self) -> None:
            # Nobody holds it any more, and it did not leave the block.
            if not left:
                timers.append(threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, number)))
                timers[-1].start()

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal sent
        sent = True
        raise Raised(*arguments)

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if not isinstance(what.exc_value, Raised):
            hook(what)

    hook, before = sys.unraisablehook, signal.signal(number, handler)
    sys.unraisablehook = dropped
    try:
        try:
            yield
        except Exception as error:
            if sent:
                raise Raised(*arguments) from error
            raise
        finally:
            left = True
            for timer in timers:
                timer.cancel()
                timer.join()
        if sent:
            raise Raised(*arguments)
    finally:
        sys.unraisablehook = hook
        signal.signal(number, before)
