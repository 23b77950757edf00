"""Digests of files and values; those of large files are computed by several threads and verified once per process."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headstart.storage.local import sync_file

_PART = 8 * 2**20
# Bytes of the digest that `seal` appends.
_SEAL = len("sha256:") + 64
_THREADS = min(8, os.cpu_count() or 1)

# Digests by device, inode, size and modification time, which change with each write. Forked processes inherit them.
_known: dict[tuple[int, int, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(content: Any) -> str:
    """Return the SHA-256 of a JSON value in hexadecimal digits; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path, end: int | None = None) -> str:
    """ "sha256:<hex>" over the SHA-256 of each 8 MiB of a file's first `end` bytes, which threads take side by side."""
    with path.open("rb") as file:
        handle = file.fileno()
        size = os.fstat(handle).st_size if end is None else end

        def part(start: int) -> bytes:
            return hashlib.sha256(os.pread(handle, min(_PART, size - start), start)).digest()

        starts = range(0, size, _PART)
        if len(starts) < 2:
            parts = [part(start) for start in starts]
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                parts = list(pool.map(part, starts))
    return f"sha256:{hashlib.sha256(b''.join(parts)).hexdigest()}"


def is_intact(path: Path, digest: str, end: int | None = None) -> bool:
    """Whether the content of a file, or its first `end` bytes, has this digest of `file_digest`.

    A file is read once per process, and again if its size or modification time changes.
    """
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if key not in _known:
        _known[key] = file_digest(path, end)
    return _known[key] == digest


def seal(path: Path) -> None:
    """Append the digest of a file's content to it."""
    digest = file_digest(path)
    with path.open("ab") as file:
        file.write(digest.encode())
    sync_file(path)


def is_sealed(path: Path) -> bool:
    """Whether a file ends in the digest of all that is before it, as `seal` writes it; read as by `is_intact`."""
    end = path.stat().st_size - _SEAL
    with path.open("rb") as file:
        file.seek(max(0, end))
        digest = file.read(_SEAL)
    return is_intact(path, digest.decode("ascii", "replace"), max(0, end))
