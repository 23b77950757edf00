"""The cache of objects keeps to its limit, and nobody loses what he is at."""

import fcntl
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.errors import HeadstartError, InputError
from headstart.storage import cache, content_cache, s3

SIZE = 1000
# Objects have numbers; from this one on they are large, and fetched in parts.
LARGE = 100


def content(number: int) -> bytes:
    return bytes([number]) * (SIZE if number < LARGE else 5 * SIZE)


def named(number: int) -> s3.Object:
    etag = hashlib.md5(content(number), usedforsecurity=False).hexdigest()
    return s3.Object(f"s3://data/{number}", len(content(number)), etag)


def read(number: int) -> bytes:
    with cache.fetch(named(number)) as file:
        return file.read()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The numbers of the objects that a store was asked for, in its order; the cache is empty."""
    asked: list[int] = []

    def read_range(found: s3.Object, start: int, length: int) -> bytes:
        number = int(found.uri.rpartition("/")[2])
        asked.append(number)
        return content(number)[start : start + length]

    monkeypatch.setattr(s3, "endpoint", lambda: "http://store")
    monkeypatch.setattr(s3, "read_range", read_range)
    monkeypatch.setattr(s3, "describe", lambda found, part=None: {})
    monkeypatch.setattr(cache, "PART", 2 * SIZE)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return asked


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the limit to so many small objects."""
    return lambda objects: monkeypatch.setenv("HEADSTART_CACHE_LIMIT", str(objects * SIZE))


def used() -> int:
    return sum(path.stat().st_size for path in cache.cache_folder().rglob("*") if path.is_file())


def age(path: Path, seconds: float) -> None:
    """Makes a file one that was last used so long ago."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def kept(numbers: range, requests: list[int]) -> list[int]:
    """Which of these objects are read without a request."""
    found = []
    for number in numbers:
        before = len(requests)
        assert read(number) == content(number)
        if len(requests) == before:
            found.append(number)
    return found


def test_the_cache_never_holds_more_than_its_limit(requests: list[int], limit: Callable[[int], None]) -> None:
    limit(20)
    for number in range(60):
        assert read(number) == content(number)
        assert used() <= 20 * SIZE
    assert used() >= 18 * SIZE, "and no less than it may"


def test_what_was_unused_for_longest_goes_first(requests: list[int], limit: Callable[[int], None]) -> None:
    for number in range(20):
        with cache.fetch(named(number)) as file:
            # Numbers count down the hours: 0 was fetched first.
            age(Path(file.name), 3600 * (20 - number))
    # The two oldest are used again.
    assert read(0) + read(1) == content(0) + content(1)
    limit(12)
    content_cache.ContentCache(cache.cache_folder(), 0, 12 * SIZE)._make_room(10**12)
    limit(10**6)
    assert kept(range(20), requests) == [0, 1, *range(12, 20)]


def test_use_does_not_look_like_a_change_of_the_content(requests: list[int]) -> None:
    with cache.fetch(named(0)) as file:
        age(Path(file.name), 3600)
        before = os.fstat(file.fileno())
    with cache.fetch(named(0)) as file:
        after = os.fstat(file.fileno())
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_atime_ns > before.st_atime_ns


def test_what_is_in_use_stays_whatever_the_limit_is(requests: list[int], limit: Callable[[int], None]) -> None:
    limit(0)
    with cache.fetch(named(0)) as small, cache.fetch(named(LARGE)) as large:
        for number in range(1, 5):
            read(number)
        assert Path(small.name).read_bytes() == content(0)
        assert Path(large.name).read_bytes() == content(LARGE)
    read(5)
    assert not Path(small.name).exists()
    assert not Path(large.name).exists()


def test_what_another_process_uses_stays_until_that_ends(requests: list[int], limit: Callable[[int], None]) -> None:
    limit(0)
    with cache.fetch(named(0)) as file:
        path = Path(file.name)
    program = (
        "import sys\n"
        "from headstart.storage import cache, s3\n"
        "s3.endpoint = lambda: 'http://store'\n"
        f"with cache.fetch(s3.{named(0)!r}) as file:\n"
        "    print('in use', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in use\n"
        read(1)
        assert path.read_bytes() == content(0)
        other.kill()
    read(2)
    assert not path.exists()


def test_a_download_under_way_stays_and_an_abandoned_one_makes_room(
    requests: list[int], limit: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(found: s3.Object, start: int, length: int) -> bytes:
        raise s3.ChangedObject("cut")

    with monkeypatch.context() as failing:
        failing.setattr(s3, "read_range", cut)
        with pytest.raises(HeadstartError, match="cut"):
            cache.fetch(named(LARGE))
    draft = next(cache.cache_folder().rglob("*.part"))
    limit(0)
    with draft.with_suffix(".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        read(0)
        assert draft.exists()
    read(1)
    assert {path.name for path in cache.cache_folder().rglob("*") if path.is_file()} <= {
        Path(cache.fetch(named(1)).name).name
    }
    assert read(LARGE) == content(LARGE)


def test_a_killed_processs_draft_goes_and_a_fresh_one_stays(requests: list[int], limit: Callable[[int], None]) -> None:
    limit(0)
    with cache.fetch(named(0)) as file:
        path = Path(file.name)
    old, fresh = (path.with_name(f".{path.name}.{name}") for name in ("old", "fresh"))
    for draft in (old, fresh):
        draft.write_bytes(bytes(SIZE))
    age(old, 3600)
    read(1)
    assert not old.exists()
    assert fresh.exists()


def test_nothing_goes_that_is_no_object(requests: list[int], limit: Callable[[int], None]) -> None:
    limit(0)
    read(0)
    strangers = [cache.cache_folder() / name for name in ("thesis.tex", "ab/thesis.tex", "photos/" + "a" * 64)]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
        age(path, 10**6)
    for number in range(1, 5):
        read(number)
    assert all(path.exists() for path in strangers)


def test_many_objects_cost_few_looks_at_the_folder(
    requests: list[int], limit: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    files = content_cache._files
    monkeypatch.setattr(content_cache, "_files", lambda folder: looks.append(folder) or files(folder))
    limit(100)
    for number in range(LARGE):
        read(number)
        read(number)
    assert 5 <= len(looks) <= 11


def test_by_default_half_of_the_free_space_and_at_most_50_gib_are_used(
    requests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A disk of 40 objects that holds nothing else.
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=40 * SIZE - used()))
    for number in range(40):
        read(number)
    assert 18 * SIZE <= used() <= 20 * SIZE
    monkeypatch.setattr(cache, "_DEFAULT_LIMIT", 10 * SIZE)
    for number in range(40, 50):
        read(number)
    assert 9 * SIZE <= used() <= 10 * SIZE


@pytest.mark.parametrize("given", ["50GiB", "-1", "1.5", "²"])
def test_a_limit_that_is_no_number_of_bytes_is_refused(
    given: str, requests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", given)
    with pytest.raises(InputError, match=rf"HEADSTART_CACHE_LIMIT is '{given}'; give a whole number of bytes"):
        read(0)
    assert requests == []


def _is_where_its_name_says(number: int) -> bool:
    with cache.fetch(named(number)) as file:
        return Path(file.name).read_bytes() == content(number)


def _read_all(order: list[int]) -> bool:
    with ThreadPoolExecutor(4) as pool:
        return all(pool.map(_is_where_its_name_says, order))


def test_processes_that_fetch_and_make_room_at_once_all_read_the_right_bytes(
    requests: list[int], limit: Callable[[int], None]
) -> None:
    limit(3)
    orders = [[(7 * step + start) % 10 + (LARGE if step % 3 == 0 else 0) for step in range(150)] for start in range(3)]
    # With fork, the processes have the store of this one.
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_read_all, orders) == [True, True, True]
    read(0)
    assert used() <= 3 * SIZE + SIZE
    assert not [path for path in cache.cache_folder().rglob("*") if path.suffix in (".lock", ".part", ".parts")]
