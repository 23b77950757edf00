"""The data loader: it reads stored samples, those of the next step while this one computes where that pays, and begins
to read the blocks that later steps need."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from headstart.data.blocks import blocks_of, request_blocks
from headstart.data.dataset import Samples
from headstart.modalities import Modality
from headstart.modalities.batch import Inputs
from headstart.training.batches import LANES


class Loader:
    """Reads the samples of a split onto the device of a training.

    For a GPU, and where samples are decoded as they are read, a thread reads the next ones while the last are in use;
    for a GPU into pinned memory, from which they are copied while it computes. A memory map is read for a CPU when it
    is asked for: reading is a copy, and the cores have other work. The samples are the same in every case.
    """

    def __init__(
        self, samples: Samples, kind: Modality, device: torch.device, order: Callable[[int], Sequence[np.ndarray]]
    ) -> None:
        """`order` gives the positions, none of them twice, that `read` will be asked for in an epoch, call by call.

        It may be asked for others: those are only not read ahead. `blocks` is then the number of each sample's block,
        int (N,), None where they are not read in blocks.
        """
        mapped = isinstance(samples, np.ndarray)
        self._samples, self.blocks = samples, blocks_of(samples)
        # Of a plain array `take` copies samples whole, without a memory map's own Python code: in half of the time.
        self._pick = partial(np.asarray(samples).take, axis=0) if mapped else samples.__getitem__
        self._kind, self._device, self._order = kind, device, order
        self._reads_ahead = device.type == "cuda" or not mapped
        self._epoch: int | None = None
        self._following: dict[int, np.ndarray] = {}
        self._ahead: tuple[np.ndarray, Future[Inputs]] | None = None
        self._next_blocks: dict[int, np.ndarray] = {}

    def read(self, chosen: np.ndarray, epoch: int) -> Inputs:
        """The stored samples at the positions `chosen`, int (N,) with N ≥ 1, in that order, on the device.

        An error in reading ahead is raised when the samples are asked for.
        """
        ahead, self._ahead = self._ahead, None
        self._look_at(epoch)
        # Before the samples themselves are read: they are there, or asked for, and the others come meanwhile.
        request_blocks(self._samples, self._next_blocks.get(int(chosen[0]), chosen[:0]))
        samples = ahead[1].result() if ahead and np.array_equal(ahead[0], chosen) else self._read(chosen)
        if self._reads_ahead and (following := self._following.get(int(chosen[0]))) is not None:
            # A pool for each batch: a training leaves no thread behind.
            pool = ThreadPoolExecutor(1, "read-ahead")
            self._ahead = following, pool.submit(self._read, following)
            pool.shutdown(wait=False)
        return samples.to(self._device, non_blocking=True)

    def _look_at(self, epoch: int) -> None:
        """Prepare for the calls of an epoch."""
        if epoch == self._epoch or not self._reads_ahead:
            return
        self._epoch, parts = epoch, self._order(epoch)
        self._following = {int(part[0]): following for part, following in pairwise(parts)}
        if self.blocks is None or not parts:
            return
        rows = np.concatenate(parts)
        # The sample with which each block comes first.
        first = np.sort(np.unique(self.blocks[rows], return_index=True)[1])
        begins = np.cumsum([0, *map(len, parts)])[:-1]
        self._next_blocks = {
            int(part[0]): rows[first[start : start + LANES]]
            for part, start in zip(parts, np.searchsorted(first, begins).tolist(), strict=True)
        }

    def _read(self, chosen: np.ndarray) -> Inputs:
        samples = self._kind.batch(self._pick(chosen))
        if self._device.type != "cuda":
            return samples
        # A new thread is on the first GPU, where the process of another one has no business.
        with torch.cuda.device(self._device):
            return samples.pin_memory()
