"""Signal handling: `raising` raises an exception, `Interruption` records the signal for work that stops by itself."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

# A signal sent from the place where the first was lost would be lost as well.
_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def exiting_when_terminated() -> Iterator[None]:
    """Make SIGTERM, and SIGHUP of a closed terminal, raise SystemExit, so that clean-up runs."""
    with (
        raising(signal.SIGTERM, SystemExit, 128 + signal.SIGTERM),
        raising(signal.SIGHUP, SystemExit, 128 + signal.SIGHUP),
    ):
        yield


@contextlib.contextmanager
def raising(number: signal.Signals, kind: type[BaseException], *arguments: object) -> Iterator[None]:
    """Make the signal `number` raise `kind(*arguments)` in the main thread; an ignored signal stays ignored.

    The block is left by this exception even if it was lost on the way. Python drops an exception raised during the
    finalisation of an object (measured: one in 2000 SIGINT), and a C library may replace it by its own error, as torch
    does while it reads the shape of a storage. A lost exception is raised again after a moment; an error that leaves
    the block instead becomes its cause.
    """
    # None is a handler that Python did not install and could not restore.
    unchanged = signal.getsignal(number) in (None, signal.SIG_IGN)
    if unchanged or threading.current_thread() is not threading.main_thread():
        yield
        return
    main = threading.get_ident()
    timers: list[threading.Timer] = []
    sent = left = False

    class Raised(kind):  # type: ignore[valid-type,misc]
        def __del__(self) -> None:
            # Finalised before it left the block: it was lost.
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


class Interruption:
    """Context in which SIGTERM and SIGINT only set `requested`, so that a training can end between two steps.

    If the work ends without checking it, the signal takes effect at the end. Ignored signals are left alone, and so are
    threads other than the main one, which alone receives signals.
    """

    def __init__(self) -> None:
        self.requested = False
        self._number: int | None = None
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                # None is a handler that Python did not install and could not restore.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
        if kind is None:
            self.raise_again()

    def raise_again(self) -> None:
        """Apply the first signal's original handling: KeyboardInterrupt, an earlier handler's exit, or the end of the
        process. Do nothing if there was no signal, or if it was applied already."""
        if self._number is None:
            return
        number, self._number = self._number, None
        handler = self._earlier[number]
        self._restore()
        if callable(handler):
            handler(number, sys._getframe())
        else:
            signal.raise_signal(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self._number = number
        self.requested = True

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
