"""Inputs of the stages that train, computed once by the frozen stages before them and read from memory maps."""

import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headstart.data.dataset import Dataset
from headstart.features.cache import FeatureCache
from headstart.features.frozen_stages import FrozenOutputs, FrozenStages, Views
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State
from headstart.training.distributed import current_group
from headstart.training.draws import seed_of, uniforms
from headstart.training.engine import training_device
from headstart.training.plan import Plan

# Bytes of feature maps that are read for validation at a time.
_VALIDATION_BYTES = 2**26
# Operations that must have gone into a byte for reading it to be cheaper: a core makes some 5e10 of them and reads some
# 5e9 bytes a second, a GPU makes 3e13 and is sent 1e10.
_OPERATIONS_PER_BYTE = {"cpu": 10, "cuda": 3000, "mps": 10}
# Maps above this size do not stay in the process's own memory after they are read.
_RESIDENT_BYTES = 2**26


class StageFeed:
    """A `Feed` for the training of the later stages: the outputs of the frozen ones, from memory maps.

    With augmentation, there are `plan.views` variants of each training sample; the one of an epoch is a function of
    (seed, epoch, sample), and each comes once in that many epochs. Validation samples are not augmented.

    Each map is made when it is first read, so that the start can be judged before anything is made of the training
    samples, and a training that is done reads no more than it judges.
    """

    def __init__(
        self, bundle: ModelBundle, dataset: Dataset, plan: Plan, stage: int, seed: int, state: State | None
    ) -> None:
        """The feed for a training from stage `stage` on, 1 to len(stages).

        Without a state, and where the cache has no room, the maps are temporary files.
        """
        views, plan = None, plan.suited_to(dataset.kind)
        if plan.augmentation != "none":
            views = Views(plan.views, seed, plan.augmentation, plan.strength, plan.flip)
        self._samples = dataset.counts["train"]
        rows = self._samples * (1 if views is None else views.count) + dataset.counts["val"]
        stages = FrozenStages(bundle, stage, plan.precision, rows)
        self._training = FrozenOutputs(stages, dataset.split("train"), views)
        self._validation = FrozenOutputs(stages, dataset.split("val"), None)
        self._cache = None if state is None else FeatureCache(state)
        self.stage, self._epochs, self._seed, self._state = stage, plan.epochs, seed, state
        self._device = training_device()

    def reason_against(self) -> str:
        """Why to train from the samples instead; empty if the maps are worth keeping.

        They are not where they are no arrays of one shape, where they take more space than there may be, where reading
        them costs as much as computing them, and where there are as many views as epochs. Processes that train together
        all get the first one's answer.
        """
        stages, views = self._training.stages, self._training.views
        if not stages.can_be_kept:
            return "the outputs of these stages differ in shape from sample to sample"
        size = stages.rows * stages.row_bytes
        folder = Path(tempfile.gettempdir()) if self._state is None else self._state.folder
        limit = shutil.disk_usage(folder).free // 2 if self._cache is None else self._cache.limit
        reason = ""
        if size > limit:
            reason = f"it takes {size / 2**30:.1f} GiB in {folder}, where there may be {limit / 2**30:.1f}"
        elif stages.operations < _OPERATIONS_PER_BYTE[self._device.type] * stages.row_bytes:
            reason = "reading it costs as much as computing it"
        elif views is not None and views.count >= self._epochs:
            reason = "there are as many views as epochs"
        return str(current_group().share(reason))

    def example(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(count, *self._training.stages.shape, generator=generator).to(self._device)

    def ready(self, pause: Callable[[], None]) -> None:
        """Makes the map of the training samples; calls `pause` between its batches."""
        self._train = self._map(self._training, pause)

    @cached_property
    def _train(self) -> np.ndarray:
        return self._map(self._training)

    @cached_property
    def _val(self) -> np.ndarray:
        return self._map(self._validation)

    def _map(self, wanted: FrozenOutputs, pause: Callable[[], None] = lambda: None) -> np.ndarray:
        kept = None if self._cache is None else self._cache.read(wanted, pause)
        return self._temporary(wanted, pause) if kept is None else kept

    def _temporary(self, wanted: FrozenOutputs, pause: Callable[[], None]) -> np.ndarray:
        """The outputs in a file that is gone when nothing reads it any more."""
        with tempfile.TemporaryFile() as file:
            for batch in wanted.batches(wanted.stages.choose_precision(self._state)):
                file.write(batch.data)
                pause()
            file.flush()
            return np.memmap(file, mode="r", dtype=batch.dtype, shape=(wanted.rows, *batch.shape[1:]))

    def batch(self, chosen: np.ndarray, epoch: int) -> Tensor:
        """The inputs of stage `stage` for the training samples at the positions `chosen`: float32, on the device."""
        views = len(self._train) // self._samples
        # Samples begin with different views, so that no epoch is of one view of them all.
        first = (uniforms(seed_of(self._seed, 0), 0, chosen, 1)[:, 0] * views).astype(np.int64)
        return self._read(self._train, (first + epoch) % views * self._samples + chosen)

    def validation(self, part: slice) -> Iterator[Tensor]:
        """The same of the validation samples in `part`, in their order, in batches."""
        row_bytes = max(1, self._val.nbytes // max(1, len(self._val)))
        rows = int(np.clip(_VALIDATION_BYTES // row_bytes, 16, 4096))
        for start in range(part.start, part.stop, rows):
            yield self._read(self._val, np.arange(start, min(start + rows, part.stop)))

    def _read(self, kept: np.ndarray, rows: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.take(kept, rows, axis=0))
        if kept.nbytes > _RESIDENT_BYTES and isinstance(kept, np.memmap):
            # What was read stays in the system's cache, but is no longer counted as this process's memory.
            kept._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
        if values.dtype == torch.uint16:
            values = values.view(torch.bfloat16)
        values = values.to(self._device, non_blocking=True).float()
        return values.permute(0, 3, 1, 2) if values.ndim == 4 else values
