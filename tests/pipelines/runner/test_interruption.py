"""How a run's steps are ended by a signal, wherever in the run it arrives."""

import signal
import threading

import pytest

from headstart_pipelines.runner.interruption import in_thread, interruptible
from tests.finalised import Finalised


class Steps:
    """Counts how often it was told to stop."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.stopped = 0
        self.fault = fault

    def stop(self) -> None:
        self.stopped += 1
        if self.fault:
            raise self.fault


def run(steps: Steps, failing: bool) -> None:
    """A run that the signal does not end by itself."""
    Finalised(lambda: signal.raise_signal(signal.SIGINT))
    if failing and steps.stopped:
        raise RuntimeError("prepare target failed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("failing", [True, False])
def test_an_interrupt_that_python_drops_still_ends_the_run_as_interrupted(failing):
    steps = Steps()
    with pytest.raises(KeyboardInterrupt), interruptible(steps.stop):
        run(steps, failing)
    assert steps.stopped == 1


def test_an_interrupt_is_one_also_where_stopping_fails():
    with pytest.raises(KeyboardInterrupt), interruptible(Steps(OSError("Docker is gone")).stop):
        signal.raise_signal(signal.SIGINT)


def test_what_fails_uninterrupted_keeps_its_own_error():
    with pytest.raises(RuntimeError, match="prepare target failed"), interruptible(Steps().stop):
        raise RuntimeError("prepare target failed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_run_stops_its_steps(number):
    steps = Steps()
    with pytest.raises(KeyboardInterrupt), interruptible(steps.stop):
        signal.raise_signal(number)
    assert steps.stopped == 1


def test_a_run_that_shall_outlive_its_terminal_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    steps = Steps()
    try:
        with interruptible(steps.stop):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert steps.stopped == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_mean_what_they_meant_before_once_the_run_is_over(number):
    before = signal.getsignal(number)
    with interruptible(Steps().stop):
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupted_run_goes_on_to_its_end_before_it_is_one(interrupts):
    """What comes after it, the end of its record, must not come before its last step has ended."""
    main, returned, worked = threading.get_ident(), threading.Event(), []

    def work() -> None:
        for _ in range(interrupts):
            signal.pthread_kill(main, signal.SIGINT)
            # Whoever does not wait for the end has returned long before this.
            assert not returned.wait(0.3)
        worked.append(True)

    def run() -> None:
        try:
            with interruptible(lambda: None):
                in_thread(work)
        finally:
            returned.set()

    with pytest.raises(KeyboardInterrupt):
        run()
    assert worked == [True]


def test_what_a_run_returns_or_raises_comes_out_of_its_thread():
    def fail() -> None:
        raise ValueError("prepare target failed")

    assert in_thread(lambda: 7) == 7
    with pytest.raises(ValueError, match="prepare target failed"):
        in_thread(fail)
