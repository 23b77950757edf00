"""The execution of steps by kfp.local, replaced for the length of a run, so that Ctrl-C and termination end it."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol


class Steps(Protocol):
    """A way to run a pipeline's steps."""

    @property
    def run(self) -> Callable[..., int]:
        """Runs one step, prints what it writes and returns its exit status."""

    def stop(self) -> None:
        """Ends the step that runs and starts no other; a second call does it by force."""


@contextlib.contextmanager
def executed_by(steps: Steps, module: ModuleType, function: str, on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Put `steps.run` in the place of kfp.local's own `module.function`; kfp offers no other place for it.

    SIGINT, SIGTERM and the SIGHUP of a terminal that is closed stop `steps` and then raise KeyboardInterrupt. Stopping
    comes first: kfp.local runs strategies in a thread that goes on with the next one, and waits for it, also when the
    main thread was interrupted. Outside of the main thread, which alone gets signals, they are left as they are.
    `on_interrupt` is called before all that.

    What was interrupted ends with KeyboardInterrupt also where that got lost on its way: Python drops what is raised
    while an object is finalised, and the run then sees no more than a step that failed.
    """
    interrupted = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal interrupted
        interrupted = True
        on_interrupt()
        try:
            steps.stop()
        finally:
            raise KeyboardInterrupt

    original = getattr(module, function)
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        # nohup has it ignored.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        handlers = {number: signal.signal(number, interrupt) for number in numbers}
    setattr(module, function, steps.run)
    try:
        yield
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        setattr(module, function, original)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if interrupted:
        raise KeyboardInterrupt
