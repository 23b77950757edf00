"""Work that threads share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart.data import parallel
from headstart.data.parallel import processors


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    processors.cache_clear()
    yield
    processors.cache_clear()


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may use eight processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("5000 100000\n", 1),
        ("800000 100000\n", 8),
    ],
)
def test_a_container_with_a_limit_uses_no_more_processors_than_that(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(parallel, "_LIMIT", tmp_path / "cpu.max")
    assert processors() == expected


@pytest.mark.usefixtures("eight")
def test_without_a_container_the_processs_affinity_is_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_LIMIT", tmp_path / "none")
    assert processors() == 8
