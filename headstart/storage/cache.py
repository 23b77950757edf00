"""Cache of S3 objects on this machine, keyed by ETag: downloaded once, in parallel parts, and verified. Files from the
web are kept in it too.

HEADSTART_CACHE names the folder; default: `headstart/objects` in the user's cache folder. HEADSTART_CACHE_LIMIT is its
maximum size in bytes; default: 50 GiB, or half of the disk's free space if that is less.
"""

import hashlib
import os
import random
import re
import tempfile
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from headstart.environment import bytes_given
from headstart.errors import HeadstartError, InputError
from headstart.storage import s3
from headstart.storage.content_cache import ContentCache, Draft
from headstart.storage.local import user_cache
from headstart.storage.s3 import Object

CACHE_VARIABLE = "HEADSTART_CACHE"
LIMIT_VARIABLE = "HEADSTART_CACHE_LIMIT"

PART = 8 * 2**20
"""Bytes of one request, and so the most that a broken connection can waste."""

_DEFAULT_LIMIT = 50 * 2**30
_PARTS_AT_ONCE = 8
_ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 20.0
_CHUNK = 2**20
# Part sizes that common programs use for multipart uploads.
_USUAL_PARTS = tuple(size * 2**20 for size in (5, 8, 10, 15, 16, 32, 50, 64, 100, 128, 256, 512))
# An MD5; of an object written in parts with their number.
_ETAG = re.compile(r"[0-9a-f]{32}(-(?P<count>[0-9]+))?")

_T = TypeVar("_T")


class _DamagedObject(HeadstartError):  # noqa: N818 - an object's state
    """An object's content does not match the store's digest."""


@cache
def _default_folder() -> Path:
    home = user_cache()
    with suppress(OSError):
        if home:
            folder = home / "objects"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK):
                return folder
    # A container may have no writable home. The name is random, so that nobody else can create the folder first.
    return Path(tempfile.mkdtemp(prefix="headstart-objects-"))


def cache_folder() -> Path:
    """Return the folder of the cache."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).absolute() if given else _default_folder()


def fetch(found: Object) -> BinaryIO:
    """Return a file with an object's content, open for reading. While it is open, it stays in the cache under its
    `name`.

    Parts that an interrupted call downloaded are not downloaded again. A failed request is repeated up to five times,
    after random waits of at most 0.2, 0.4, … 20 s.

    Raises:
        ChangedObject: the object is no longer the one that was listed.
        HeadstartError: the content is repeatedly damaged, incomplete or unavailable.
        InputError: the store refuses it, the cache cannot be written, or HEADSTART_CACHE_LIMIT is not a number.
    """
    key = hashlib.sha256(f"{s3.endpoint()}\0{found.uri}\0{found.etag}".encode()).hexdigest()
    fill = _fetch_whole if found.size <= PART else _fetch_parts
    return _get(key, partial(fill, found), lambda file: os.fstat(file.fileno()).st_size == found.size, of=found.uri)


def kept(
    key: str, make: Callable[[Path], None], *, of: str, is_intact: Callable[[BinaryIO], bool] = lambda file: True
) -> BinaryIO:
    """Return the file of `key`, open for reading; `make` writes a missing one, which comes from `of`, and one that is
    not intact.

    `key` is a hexadecimal digest of everything that determines the content.

    Raises:
        InputError: the cache cannot be written, or HEADSTART_CACHE_LIMIT is not a number.
    """
    return _get(key, lambda draft: make(draft.path), is_intact, of=of)


def _get(key: str, make: Callable[[Draft], None], is_intact: Callable[[BinaryIO], bool], *, of: str) -> BinaryIO:
    cache = ContentCache(cache_folder(), _DEFAULT_LIMIT, bytes_given(LIMIT_VARIABLE, such_as=50_000_000_000))
    try:
        return cache.get(key, make, is_intact)
    except OSError as error:
        raise InputError(
            f"{of} cannot be kept in {cache.folder / key[:2]} ({error.strerror}); make room, or set {CACHE_VARIABLE}."
        ) from error


def _fetch_whole(found: Object, draft: Draft) -> None:
    def read() -> bytes:
        content = s3.read_range(found, 0, found.size) if found.size else b""
        # An ETag is usually the MD5; then no second request for checksums is needed.
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != found.etag:
            _check(found, [content])
        return content

    draft.path.write_bytes(retried(read))


def _fetch_parts(found: Object, draft: Draft) -> None:
    """Download the missing parts into the draft and verify the whole; each finished part is listed in the notes."""
    for attempts_left in (1, 0):
        _fetch_missing(found, draft)
        try:
            return _check(found, _chunks(draft.path))
        except _DamagedObject:
            # The damaged part is unknown, so all are downloaded again.
            draft.path.unlink()
            draft.notes.unlink()
            if not attempts_left:
                raise


def _fetch_missing(found: Object, draft: Draft) -> None:
    def fetch_part(number: int) -> None:
        start = number * PART
        content = retried(lambda: s3.read_range(found, start, min(PART, found.size - start)))
        with draft.path.open("r+b") as file:
            os.pwrite(file.fileno(), content, start)
            os.fsync(file.fileno())
        # Written here, so that a part which arrives after another has failed is listed too. Appended without a buffer:
        # each thread's line stays whole.
        notes.write(f"{number}\n".encode())

    if not draft.path.exists() or draft.path.stat().st_size != found.size:
        draft.notes.unlink(missing_ok=True)
        with draft.path.open("wb") as file:
            file.truncate(found.size)
    done = {int(line) for line in draft.notes.read_text().split()} if draft.notes.exists() else set()
    missing = [number for number in range(-(-found.size // PART)) if number not in done]
    # The notes are closed after the pool has waited for its threads.
    with draft.notes.open("ab", buffering=0) as notes, ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        waiting = [pool.submit(fetch_part, number) for number in missing]
        try:
            for part in as_completed(waiting):
                part.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def retried(action: Callable[[], _T]) -> _T:
    """Return the result of `action`, repeated after failures of the store or the connection."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return action()
        except (InputError, s3.ChangedObject):
            raise
        except HeadstartError:
            # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)))  # noqa: S311
    return action()


def _check(found: Object, chunks: Iterable[bytes]) -> None:
    """Compare the content with the checksums that the store has of it, if any.

    Raises:
        ChangedObject: the object was replaced.
        HeadstartError: the content differs.
    """
    said = s3.describe(found)
    if said.get("ETag", "").strip('"') not in ("", found.etag):
        raise s3.ChangedObject(f"{found.uri} changed while it was read; run again.")
    sha256, crc32 = hashlib.sha256(), 0
    parts = {size: _Parts(size) for size in _part_sizes(found)}
    for chunk in chunks:
        sha256.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        for of_size in parts.values():
            of_size.update(chunk)
    whole = said.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    compared = [
        said["ChecksumSHA256"] == b64encode(sha256.digest()).decode() if whole and "ChecksumSHA256" in said else None,
        said["ChecksumCRC32"] == b64encode(crc32.to_bytes(4, "big")).decode()
        if whole and "ChecksumCRC32" in said
        else None,
        # With a KMS key or a customer's key, the ETag is not a digest of the content.
        found.etag in {of_size.etag() for of_size in parts.values()}
        if parts and said.get("ServerSideEncryption") in (None, "AES256") and not said.get("SSECustomerAlgorithm")
        else None,
    ]
    if False in compared:
        raise _DamagedObject(f"{found.uri} arrives damaged: its content is not the one that the store has a digest of")


class _Parts:
    """The ETag of content that was uploaded in parts of `size` bytes: the MD5 of the parts' MD5s, and their number."""

    def __init__(self, size: int) -> None:
        self._size, self._filled = size, 0
        self._digests: list[bytes] = []
        self._part = hashlib.md5(usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while len(view):
            taken = view[: self._size - self._filled]
            self._part.update(taken)
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == self._size:
                self._close()

    def etag(self) -> str:
        if self._filled or not self._digests:
            self._close()
        if self._size == _WHOLE:
            return self._digests[0].hex()
        whole = hashlib.md5(b"".join(self._digests), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(self._digests)}"

    def _close(self) -> None:
        self._digests.append(self._part.digest())
        self._part, self._filled = hashlib.md5(usedforsecurity=False), 0


_WHOLE = 2**62


def _part_sizes(found: Object) -> list[int]:
    """The sizes of parts that the ETag may have been made with; none where it is no digest."""
    etag = _ETAG.fullmatch(found.etag)
    if etag is None or not etag["count"]:
        return [_WHOLE] if etag else []
    first = s3.describe(found, part=1)["ContentLength"]
    fitting = [part for part in (first, *_USUAL_PARTS) if part > 0 and -(-found.size // part) == int(etag["count"])]
    # A store that does not know its parts answers with the whole object.
    return fitting[:1] if first in fitting else fitting


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
