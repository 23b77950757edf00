"""Signals whose handlers raise."""

import signal
import sys
import threading

import pytest
import torch

from headstart.signals import exiting_when_terminated, raising
from tests.finalised import Finalised


class Sequence:
    """Is sent SIGTERM where torch raises an error of its own for whatever is raised."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> float:
        signal.raise_signal(signal.SIGTERM)
        return 0.0


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def wait() -> None:
    """Until the signal comes once more, as the first was lost."""
    threading.Event().wait(60)


def lose_by_python() -> None:
    Finalised(terminate)
    wait()


def lose_by_library() -> None:
    try:
        torch.tensor(Sequence())
    except ValueError:
        wait()


def test_a_signal_that_python_dropped_comes_once_more():
    with pytest.raises(SystemExit) as exit, exiting_when_terminated():
        lose_by_python()
    assert exit.value.code == 128 + signal.SIGTERM


def test_a_signal_comes_once_more_where_a_library_made_an_error_of_it_that_was_handled():
    with pytest.raises(SystemExit) as exit, exiting_when_terminated():
        lose_by_library()
    assert exit.value.code == 128 + signal.SIGTERM


def test_an_error_that_a_library_made_of_a_signal_gives_way_to_it():
    with pytest.raises(SystemExit) as exit, exiting_when_terminated():
        torch.tensor(Sequence())
    assert exit.value.code == 128 + signal.SIGTERM
    assert isinstance(exit.value.__cause__, ValueError)


def test_work_that_ends_although_its_signal_was_lost_ends_as_terminated():
    with pytest.raises(SystemExit), exiting_when_terminated():
        Finalised(terminate)


def test_an_error_without_a_signal_stays_what_it_is():
    with pytest.raises(ValueError, match="not a signal"), exiting_when_terminated():
        raise ValueError("not a signal")


def test_what_else_is_dropped_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(str(what.exc_value)))
    hook = sys.unraisablehook

    def fail() -> None:
        raise OSError("the disk is full")

    with exiting_when_terminated():
        Finalised(fail)
    assert told == ["the disk is full"]
    assert sys.unraisablehook is hook


def test_a_terminal_that_is_closed_terminates():
    with pytest.raises(SystemExit) as exit, exiting_when_terminated():
        signal.raise_signal(signal.SIGHUP)
    assert exit.value.code == 128 + signal.SIGHUP


def test_afterwards_the_signal_does_what_it_did_before():
    handled = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
    try:
        with pytest.raises(SystemExit), exiting_when_terminated():
            terminate()
        terminate()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handled == [signal.SIGTERM]


def test_a_signal_that_is_ignored_still_is():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with raising(signal.SIGINT, KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
