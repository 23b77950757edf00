"""The cache of frozen features: memory maps below `State.folder`/features, shared by runs and by processes.

Strategies, prototypes, probes and source selection read the same files. A file is named after everything that decides
its content (`FrozenOutputs.key`) and after the digest of its content, which is verified once a process. It is written
under another name, flushed and renamed, so that readers find it whole or not at all; while a process writes it, others
wait; a computation that was killed is resumed; a damaged or missing file is made again.

The files take 20 GiB at most, and no more than half of the space that they and nobody else use; those that were not
read for the longest time make room for new ones.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from headstart.features.frozen_stages import FrozenOutputs
from headstart.storage.content_cache import note_use
from headstart.storage.digests import file_digest, is_intact
from headstart.storage.local import write_json
from headstart.storage.state import State

log = logging.getLogger(__name__)

_LIMIT = 20 * 2**30
# Seconds between notes of how far a computation is, from which another process can resume it.
_NOTED_SECONDS = 10


class FeatureCache:
    """The files of a state: <key>.<digest>.npy; while one is made, <key>.part and <key>.json, which says how far it is;
    and <two digits of the key>.lock, held by whoever makes one."""

    def __init__(self, state: State) -> None:
        self._state, self._folder = state, state.folder / "features"

    @property
    def limit(self) -> int:
        """The bytes that all files together may take."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return min(_LIMIT, half_of_free(self._folder) + sum(size for _, size, _ in self._files()) // 2)

    def read(self, wanted: FrozenOutputs, pause: Callable[[], None] = lambda: None) -> np.ndarray | None:
        """The outputs, computed if they are not there yet; None, with a warning, if they cannot be kept.

        Calls `pause` between the batches that it computes.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            kept = self._find(wanted)
            if kept is None:
                with FileLock(self._folder / f"{wanted.key[:2]}.lock"):
                    # Whoever held the lock before may have made it.
                    kept = self._find(wanted)
                    if kept is None:
                        self._make(wanted, pause)
                        kept = self._find(wanted)
            return kept
        # filelock raises NotImplementedError on file systems without locks.
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            log.warning("Frozen features cannot be kept in %s (%s); they are computed.", self._folder, reason)
            return None

    def _find(self, wanted: FrozenOutputs) -> np.ndarray | None:
        path = next(self._folder.glob(f"{wanted.key}.*.npy"), None)
        if path is None:
            return None
        try:
            if not is_intact(path, f"sha256:{path.suffixes[0].removeprefix('.')}"):
                raise ValueError("its content is not what its digest was taken of")
            kept = np.load(path, mmap_mode="r", allow_pickle=False)
            if not wanted.fits(kept):
                raise ValueError(f"it holds {kept.shape} {kept.dtype}")
            with path.open("rb") as file:
                note_use(file.fileno())
        except FileNotFoundError:
            return None
        except (ValueError, EOFError) as error:
            log.warning("%s is damaged (%s); it is made again.", path, error)
            path.unlink(missing_ok=True)
            return None
        return kept

    def _make(self, wanted: FrozenOutputs, pause: Callable[[], None]) -> None:
        part, progress = self._folder / f"{wanted.key}.part", self._folder / f"{wanted.key}.json"
        precision, done, end = self._left_off(part, progress)
        if not precision:
            precision = wanted.stages.choose_precision(self._state)
            self._make_room(wanted)
        with part.open("r+b" if done else "wb") as file:
            file.truncate(end)
            file.seek(end)
            noted = time.monotonic()
            for batch in wanted.batches(precision, done):
                if not done:
                    shape = (wanted.rows, *batch.shape[1:])
                    header = {"descr": batch.dtype.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(batch.data)
                done += len(batch)
                if time.monotonic() - noted > _NOTED_SECONDS:
                    _flush(file)
                    write_json(progress, {"precision": precision, "rows": done, "bytes": file.tell()})
                    noted = time.monotonic()
                pause()
            _flush(file)
        part.replace(self._folder / f"{wanted.key}.{file_digest(part).removeprefix('sha256:')}.npy")
        progress.unlink(missing_ok=True)

    def _left_off(self, part: Path, progress: Path) -> tuple[str, int, int]:
        """The precision, rows and bytes of a computation that was killed; "", 0 and 0 where there is none."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            noted = json.loads(progress.read_text(encoding="utf-8"))
            if part.stat().st_size >= noted["bytes"]:
                return str(noted["precision"]), int(noted["rows"]), int(noted["bytes"])
        return "", 0, 0

    def _make_room(self, wanted: FrozenOutputs) -> None:
        """Removes files, the longest unread first, until `wanted` fits beside the rest. OSError if it never can."""
        needed, limit = wanted.rows * wanted.stages.row_bytes, self.limit
        if needed > limit:
            raise OSError(errno.ENOSPC, f"they take {needed / 2**30:.1f} GiB and may take {limit / 2**30:.1f}")
        files = sorted(self._files())
        taken = sum(size for _, size, _ in files)
        for _, size, path in files:
            if taken + needed <= limit:
                break
            # Whoever reads it keeps what it has mapped.
            path.unlink(missing_ok=True)
            taken -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file was last read, its bytes and its path."""
        found = []
        for path in [*self._folder.glob("*.npy"), *self._folder.glob("*.part")]:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        return found


def half_of_free(folder: Path) -> int:
    """Half of the free bytes of the folder's disk."""
    return shutil.disk_usage(folder).free // 2


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
