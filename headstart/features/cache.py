"""The cache of frozen features: memory maps below `State.folder`/features, shared by runs and by processes.

Strategies, prototypes, probes and source selection read the same files. A file's key is a digest of everything that
decides its content (`FrozenOutputs.key`), and it ends in the digest of its content, which is verified once a process. A
computation that was killed is resumed; a damaged or missing file is made again.

The files take 20 GiB at most, and no more than half of the space that they and nobody else use.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from headstart.features.frozen_stages import FrozenOutputs
from headstart.storage.content_cache import ContentCache, Draft
from headstart.storage.digests import is_sealed, seal
from headstart.storage.local import write_json
from headstart.storage.state import State

log = logging.getLogger(__name__)

_LIMIT = 20 * 2**30
# Seconds between notes of how far a computation is, from which another process can resume it.
_NOTED_SECONDS = 10


class FeatureCache:
    """The frozen features of a state."""

    def __init__(self, state: State) -> None:
        self._state, self._cache = state, ContentCache(state.folder / "features", _LIMIT, spare=0.0)

    @property
    def limit(self) -> int:
        """The bytes that all files together may take."""
        return self._cache.capacity

    def read(self, wanted: FrozenOutputs, pause: Callable[[], None] = lambda: None) -> np.ndarray | None:
        """The outputs, computed if they are not there yet; None, with a warning, if they cannot be kept.

        Calls `pause` between the batches that it computes.
        """
        try:
            with self._cache.get(wanted.key, partial(self._make, wanted, pause), _is_intact) as file:
                return np.load(file.name, mmap_mode="r", allow_pickle=False)
        # filelock raises NotImplementedError on file systems without locks.
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            log.warning("Frozen features cannot be kept in %s (%s); they are computed.", self._cache.folder, reason)
            return None

    def _make(self, wanted: FrozenOutputs, pause: Callable[[], None], draft: Draft) -> None:
        precision, done, end = _left_off(draft)
        if not precision:
            precision = wanted.stages.choose_precision(self._state)
            self._cache.reserve(wanted.rows * wanted.stages.row_bytes)
        with draft.path.open("r+b" if done else "wb") as file:
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
                    file.flush()
                    os.fsync(file.fileno())
                    write_json(draft.notes, {"precision": precision, "rows": done, "bytes": file.tell()})
                    noted = time.monotonic()
                pause()
        seal(draft.path)


def _left_off(draft: Draft) -> tuple[str, int, int]:
    """The precision, rows and bytes of a computation that was killed; "", 0 and 0 where there is none."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        noted = json.loads(draft.notes.read_text(encoding="utf-8"))
        if draft.path.stat().st_size >= noted["bytes"]:
            return str(noted["precision"]), int(noted["rows"]), int(noted["bytes"])
    return "", 0, 0


def _is_intact(file: BinaryIO) -> bool:
    """Whether the content of a kept file is what its digest was taken of; removes it where it is not."""
    path = Path(file.name)
    intact = is_sealed(path)
    if not intact:
        log.warning("%s is damaged (its content is not what its digest was taken of); it is made again.", path)
        path.unlink(missing_ok=True)
    return intact
