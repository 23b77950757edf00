"""S3 prefixes as trees: `s3://bucket/prefix/cat/1.png` is the file `cat/1.png` of `s3://bucket/prefix`."""

from collections.abc import Iterable
from typing import BinaryIO

from headstart.data.limits import MAX_BYTES, MAX_ENTRIES
from headstart.data.tree import TOO_LARGE, NamedTree
from headstart.errors import InputError
from headstart.modalities import UnreadableSample
from headstart.storage import cache, s3


class RemoteTree(NamedTree):
    """Objects below a prefix, each downloaded when it is read and kept in the cache."""

    readers: int | None = s3.CONNECTIONS

    def __init__(self, prefix: str, objects: Iterable[s3.Object]) -> None:
        base = prefix.rstrip("/") + "/"
        self._objects = {found.uri.removeprefix(base): found for found in objects}
        if len(self._objects) > MAX_ENTRIES:
            raise InputError(f"There are more than {MAX_ENTRIES:,} objects below {prefix}; name a part of them.")
        super().__init__(prefix.rstrip("/"), dict.fromkeys(self._objects))

    def read(self, path: str) -> bytes:
        return read_object(self._objects[path])

    def open(self, path: str) -> BinaryIO:
        return cache.fetch(self._objects[path])

    def state(self, path: str) -> str:
        return state_of_object(self._objects[path])


def state_of_object(found: s3.Object) -> str:
    """Return a text that changes whenever the object's content does."""
    return f"{found.size} {found.etag}"


def read_object(found: s3.Object) -> bytes:
    """Return the content of an object of at most MAX_BYTES.

    Raises:
        UnreadableSample: it is larger; other errors as `cache.fetch`.
    """
    if found.size > MAX_BYTES:
        raise UnreadableSample(TOO_LARGE)
    with cache.fetch(found) as file:
        return file.read()
