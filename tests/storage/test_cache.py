"""Objects are kept whole or not at all, whatever the way to them does; the store itself is tried in tests/services."""

import hashlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from headstart.errors import HeadstartError, InputError
from headstart.storage import cache, s3

CONTENT = np.random.default_rng(0).bytes(100_000)
PART = 16_384


class Store:
    """What S3 answers, in place of it, and what it was asked for."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.asked: list[tuple[int, int]] = []
        self.failures: list[Exception] = []
        self.said: dict[str, object] = {}
        self.first_part = len(CONTENT)

    def read_range(self, found: s3.Object, start: int, length: int) -> bytes:
        self.asked.append((start, length))
        if self.failures:
            raise self.failures.pop()
        return self.content[start : start + length]

    def describe(self, found: s3.Object, part: int | None = None) -> dict[str, object]:
        return {"ContentLength": self.first_part} if part else self.said


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    store = Store()
    monkeypatch.setattr(s3, "endpoint", lambda: "http://store")
    monkeypatch.setattr(s3, "read_range", store.read_range)
    monkeypatch.setattr(s3, "describe", store.describe)
    monkeypatch.setattr(cache, "_LONGEST_WAIT", 0.0)
    monkeypatch.setattr(cache, "PART", PART)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return store


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def named(etag: str = md5(CONTENT), size: int = len(CONTENT)) -> s3.Object:
    return s3.Object("s3://data/some", size, etag)


def in_parts(size: int) -> str:
    """The ETag of the content written in parts of this size."""
    digests = [bytes.fromhex(md5(CONTENT[start : start + size])) for start in range(0, len(CONTENT), size)]
    return f"{md5(b''.join(digests))}-{len(digests)}"


def fetched(found: s3.Object) -> bytes:
    with cache.fetch(found) as file:
        return file.read()


def test_an_object_is_fetched_in_parts_once(store: Store) -> None:
    assert fetched(named()) == CONTENT
    assert sorted(store.asked) == [(start, min(PART, 100_000 - start)) for start in range(0, 100_000, PART)]
    store.asked.clear()
    assert fetched(named()) == CONTENT
    assert store.asked == []
    assert not [path for path in cache.cache_folder().rglob("*") if path.suffix]


def test_a_small_object_is_fetched_with_one_request(store: Store) -> None:
    store.content = CONTENT[:100]
    assert fetched(named(md5(CONTENT[:100]), 100)) == CONTENT[:100]
    assert store.asked == [(0, 100)]


def test_an_empty_object_is_an_empty_file(store: Store) -> None:
    store.content = b""
    assert fetched(named(md5(b""), 0)) == b""


@pytest.mark.parametrize("size", [100, len(CONTENT)])
def test_threads_that_want_one_object_at_once_fetch_it_once(store: Store, size: int) -> None:
    found = named(md5(CONTENT[:size]), size)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(fetched, [found] * 16)) == {CONTENT[:size]}
    assert len(store.asked) == len(set(store.asked))


def test_a_failing_request_is_repeated_five_times(store: Store) -> None:
    store.content = CONTENT[:100]
    store.failures = [HeadstartError("slow down") for _ in range(5)]
    assert fetched(named(md5(CONTENT[:100]), 100)) == CONTENT[:100]
    store.failures = [HeadstartError("slow down") for _ in range(6)]
    with pytest.raises(HeadstartError, match="slow down"):
        cache.fetch(named("other", 100))
    assert len(store.asked) == 12


@pytest.mark.parametrize("failure", [InputError("no access"), s3.ChangedObject("changed")])
def test_what_no_repetition_mends_is_not_repeated(store: Store, failure: Exception) -> None:
    store.failures = [failure]
    with pytest.raises(type(failure)):
        cache.fetch(named(size=100))
    assert len(store.asked) == 1


def test_parts_that_arrive_after_another_has_failed_are_not_fetched_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_up = Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            gave_up.set()
            super().shutdown(wait, cancel_futures=cancel_futures)

    def fails_at_once_or_arrives_late(found: s3.Object, start: int, length: int) -> bytes:
        if start == PART:
            raise InputError("no access")
        gave_up.wait()
        return store.content[start : start + length]

    monkeypatch.setattr(cache, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(s3, "read_range", fails_at_once_or_arrives_late)
    with pytest.raises(InputError, match="no access"):
        cache.fetch(named())
    monkeypatch.setattr(s3, "read_range", store.read_range)
    assert fetched(named()) == CONTENT
    assert store.asked == [(PART, PART)]


@pytest.mark.parametrize("size", [100, len(CONTENT)])
def test_wrong_bytes_are_never_kept(store: Store, size: int) -> None:
    store.content = bytes(len(CONTENT))
    with pytest.raises(HeadstartError, match="s3://data/some arrives damaged"):
        cache.fetch(named(md5(CONTENT[:size]), size))
    assert not [path for path in cache.cache_folder().rglob("*") if path.is_file()]
    store.content = CONTENT
    assert fetched(named(md5(CONTENT[:size]), size)) == CONTENT[:size]


@pytest.mark.parametrize(("part", "told"), [(30_000, True), (5 * 2**20, True), (5 * 2**20, False)])
def test_the_etag_of_parts_is_verified(store: Store, part: int, told: bool) -> None:
    store.first_part = min(part, len(CONTENT)) if told else 0
    etag = in_parts(part)
    assert fetched(named(etag)) == CONTENT
    store.content = bytes(len(CONTENT))
    with pytest.raises(HeadstartError, match="arrives damaged"):
        cache.fetch(s3.Object("s3://data/other", len(CONTENT), etag))


def test_a_stores_own_checksums_are_verified(store: Store) -> None:
    store.said = {"ChecksumSHA256": b64encode(hashlib.sha256(CONTENT).digest()).decode()}
    assert fetched(named("opaque")) == CONTENT
    store.content = bytes(len(CONTENT))
    with pytest.raises(HeadstartError, match="arrives damaged"):
        cache.fetch(named("opaque too"))


def test_an_etag_of_an_encrypted_object_is_taken_for_no_digest(store: Store) -> None:
    store.said = {"ServerSideEncryption": "aws:kms"}
    assert fetched(named("0" * 32)) == CONTENT


def test_a_cache_that_cannot_be_written_is_named(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"s3://data/some cannot be kept in .*set HEADSTART_CACHE"):
        cache.fetch(named())
