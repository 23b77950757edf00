"""A process of headstart's own ends quickly, and without a word."""

import gc
import sys
import types

import pytest

from headstart.process import _leave_garbage


@pytest.mark.parametrize(("loaded", "frozen"), [("any_other", True), ("triton._C.libtriton", False)])
def test_garbage_is_left_unless_triton_would_list_what_is_left_of_it(monkeypatch, loaded, frozen):
    called = []
    monkeypatch.delitem(sys.modules, "triton._C.libtriton", raising=False)
    monkeypatch.setitem(sys.modules, loaded, types.ModuleType(loaded))
    monkeypatch.setattr(gc, "freeze", lambda: called.append(True))
    _leave_garbage()
    assert bool(called) == frozen
