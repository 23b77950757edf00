"""Signals whose handlers raise."""

import signal
import sys
import threading

import pytest

from headstart.signals import exiting_when_terminated, none_dropped


class Finalised:
    """Does something where Python drops what is raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def __del__(self) -> None:
        if self.error:
            raise self.error
        signal.raise_signal(signal.SIGTERM)


def wait() -> None:
    """Until the second signal, as the first is dropped."""
    Finalised()
    threading.Event().wait(60)


def test_a_signal_that_was_dropped_comes_once_more():
    with pytest.raises(SystemExit) as exit, exiting_when_terminated():
        wait()
    assert exit.value.code == 128 + signal.SIGTERM


def test_what_else_is_dropped_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_value))
    hook = sys.unraisablehook
    error = OSError("the disk is full")
    with none_dropped(signal.SIGTERM, SystemExit):
        Finalised(error)
    assert told == [error]
    assert sys.unraisablehook is hook
