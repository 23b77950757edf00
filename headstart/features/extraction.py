"""Frozen features, computed once: what the first stages of a network make of a split, kept as a memory map.

Strategies, prototypes, probes and the choice of a source read the same files, in one run, in later ones and at the same
time. A file is named after everything that decides its content: the weights of the stages, the preprocessing, the
samples in their order, how they are augmented, the precision, the versions of torch and headstart; and after the digest
of its content, which is verified once a process. It lies below `State.folder`/features. It is written under another
name, flushed and renamed, so that whoever finds it finds it whole; while a process writes it, others wait; one that was
killed is gone on with; and what is damaged or gone is made again.

The files take 20 GiB at most, and no more than half of the space that they and nobody else use; those that were not
read for the longest time make room for new ones.
"""

import contextlib
import copy
import errno
import fcntl
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.dataset import Dataset, Split
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle, versions
from headstart.models.network import evaluated
from headstart.storage.content_cache import note_use
from headstart.storage.digests import file_digest, is_intact
from headstart.storage.local import write_json
from headstart.storage.state import State
from headstart.training.distributed import current_group
from headstart.training.draws import seed_of, uniforms
from headstart.training.engine import training_device
from headstart.training.loader import Loader
from headstart.training.memory import kept_memory
from headstart.training.plan import Plan
from headstart.training.speed import Speed, counted, forward_precision, host_precision, precisions
from headstart.training.supervised import weights_digest
from headstart.version import CODE_VARIABLE

log = logging.getLogger(__name__)

_LIMIT = 20 * 2**30
# Pixels of the network's input in a batch, half as many more at most. On two cores, ResNet-18 at 224 px is fastest with
# about 30 images or more, in fp32 as in bf16 (10 images take 4 and 8% longer), and convnet at 32 px with 256.
_PIXELS = {"cpu": 3 * 2**19, "cuda": 2**23}
# Bytes of feature maps that are read for validation at a time.
_VALIDATION_BYTES = 2**26
# Work of fewer operations, a second of one core, is done in fp32; that of more in the precision in which this machine
# is faster at convolutions, and that of yet more in the one in which these stages are.
_CONSIDERED_OPERATIONS = 5e10
_MEASURED_OPERATIONS = 4e12
_MEASURED_SAMPLES = 4
# How often a computation says how far it is, so that another process can go on with it.
_TOLD_SECONDS = 10
# Operations that must have gone into a byte for reading it to be cheaper: a core makes some 5e10 of them and reads some
# 5e9 bytes a second, a GPU makes 3e13 and is sent 1e10.
_OPERATIONS_PER_BYTE = {"cpu": 10, "cuda": 3000}
_LAID_OUT = Speed(channels_last=True)
# Maps above this size do not stay in the process's own memory after they are read.
_RESIDENT_BYTES = 2**26


def vectors(bundle: ModelBundle, split: Split, state: State | None = None, *, precision: str = "auto") -> np.ndarray:
    """The feature vectors of one split: `vectors_of`."""
    return vectors_of(bundle, [split], state, precision=precision)[0]


def vectors_of(
    bundle: ModelBundle, splits: Sequence[Split], state: State | None = None, *, precision: str = "auto"
) -> list[np.ndarray]:
    """The feature vectors of the splits' samples as they are, for each float32 (N, feature_dim), read-only.

    They are computed on the training device, in eval mode, and only if they are not kept below `state` already; without
    a state they are computed. `precision` is fp32, bf16 or auto: bf16 where that measures faster, which is tried when
    the work is worth it, and the same for all splits that are computed at once.
    """
    stages = _Stages(bundle, len(bundle.network.stages), precision, sum(len(split.labels) for split in splits))
    found = []
    for split in splits:
        work = _Work(stages, split, None)
        kept = None if state is None else _Cache(state).read(work)
        if kept is None:
            kept = np.concatenate(list(work.batches(stages.choose_precision(state))))
            kept.setflags(write=False)
        found.append(kept)
    return found


@dataclass(frozen=True)
class Estimate:
    """What the feature maps of a training take: `fits` says whether to keep them, and `reason` why not."""

    bytes: int
    limit: int
    fits: bool
    reason: str


class StageFeed:
    """What frozen stages make of the samples, read from memory maps: a `Feed` for the training of the later stages.

    With augmentation, there are `plan.views` variants of each training sample; the one of an epoch is a function of
    (seed, epoch, sample), and each comes once in that many epochs. Validation samples are as they are.

    Each map is made when it is first read, so that the start can be judged before anything is made of the training
    samples, and a training that is done reads no more than it judges.
    """

    def __init__(self, training: "_Work", validation: "_Work", epochs: int, seed: int, state: State | None) -> None:
        self.stage = training.stages.count
        self._training, self._validation, self._epochs, self._seed = training, validation, epochs, seed
        self._samples = len(training.split.labels)
        self._cache = None if state is None else _Cache(state)
        self._state, self._device = state, training_device()

    @classmethod
    def of(
        cls, bundle: ModelBundle, dataset: Dataset, plan: Plan, stage: int, seed: int, state: State | None
    ) -> "StageFeed":
        """The feed for a training from stage `stage` on, 1 to len(stages); what is not kept below `state` is computed.

        Without a state the maps are temporary files.
        """
        views = None
        if plan.augmentation != "none":
            views = _Views(plan.views, seed, plan.augmentation, plan.strength, plan.flip)
        rows = dataset.counts["train"] * (1 if views is None else views.count) + dataset.counts["val"]
        stages = _Stages(bundle, stage, plan.precision, rows)
        training = _Work(stages, dataset.split("train"), views)
        return cls(training, _Work(stages, dataset.split("val"), None), plan.epochs, seed, state)

    def estimate(self) -> Estimate:
        """Whether to keep what the stages make of the samples; if not, train from the samples.

        Not where it takes more space than there may be, where reading it costs as much as computing it, and where there
        are as many views as epochs. Processes that train together all get what the first one finds.
        """
        stages, views = self._training.stages, self._training.views
        size = stages.rows * stages.row_bytes
        folder = Path(tempfile.gettempdir()) if self._state is None else self._state.folder
        limit = _half_of_free(folder) if self._cache is None else self._cache.limit
        reason = ""
        if size > limit:
            reason = f"it takes {size / 2**30:.1f} GiB in {folder}, where there may be {limit / 2**30:.1f}"
        elif stages.operations < _OPERATIONS_PER_BYTE[self._device.type] * stages.row_bytes:
            reason = "reading it costs as much as computing it"
        elif views is not None and views.count >= self._epochs:
            reason = "there are as many views as epochs"
        return Estimate(**current_group().share(asdict(Estimate(size, limit, not reason, reason))))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._training.stages.shape

    def ready(self, pause: Callable[[], None]) -> None:
        """Makes the map of the training samples; calls `pause` between its batches."""
        self._train = self._map(self._training, pause)

    @cached_property
    def _train(self) -> np.ndarray:
        return self._map(self._training)

    @cached_property
    def _val(self) -> np.ndarray:
        return self._map(self._validation)

    def _map(self, work: "_Work", pause: Callable[[], None] = lambda: None) -> np.ndarray:
        kept = None if self._cache is None else self._cache.read(work, pause)
        return _temporary(work, self._state, pause) if kept is None else kept

    def batch(self, chosen: np.ndarray, epoch: int) -> Tensor:
        """What stage `stage` reads for the training samples at the positions `chosen`: float32, on the device."""
        views = len(self._train) // self._samples
        # Samples begin with different views, so that no epoch is of one view of them all.
        first = (uniforms(seed_of(self._seed, 0), 0, chosen, 1)[:, 0] * views).astype(np.int64)
        return self._read(self._train, (first + epoch) % views * self._samples + chosen)

    def validation(self, part: slice) -> Iterator[Tensor]:
        """The same of the validation samples in `part`, in their order, in batches."""
        rows = int(np.clip(_VALIDATION_BYTES // _row_bytes(self._val), 16, 4096))
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


@dataclass(frozen=True)
class _Views:
    """`count` variants of each sample by a modality's augmentation."""

    count: int
    seed: int
    method: str
    strength: float
    flip: bool


@dataclass(frozen=True)
class _Stages:
    """The first `count` stages of a bundle's network as they are, and how they are computed for `rows` rows in all."""

    bundle: ModelBundle
    count: int
    precision: str
    rows: int

    @property
    def are_all(self) -> bool:
        """Whether their outputs are feature vectors."""
        return self.count == len(self.bundle.network.stages)

    @cached_property
    def digest(self) -> str:
        return weights_digest(self.bundle.network.stages[: self.count])

    @contextlib.contextmanager
    def frozen(self) -> Iterator[nn.ModuleList]:
        """The stages on the training device, in eval mode: they themselves where they are there, as a copy of
        ResNet-18's takes 3% of the time that 100 images do, and are left in the modes that they were in."""
        network, device = self.bundle.network, training_device()
        if next(network.parameters()).device != device:
            yield copy.deepcopy(network.stages[: self.count]).to(device).eval()
            return
        with evaluated(network):
            yield network.stages[: self.count]

    @property
    def operations(self) -> int:
        """Those that one row takes."""
        return self._tried[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a row."""
        return self._tried[1]

    @cached_property
    def _tried(self) -> tuple[int, tuple[int, ...]]:
        size, channels = self.bundle.preprocessing.size, self.bundle.preprocessing.channels
        inputs = torch.zeros(1, channels, size, size, device=training_device()).requires_grad_()
        with self.frozen() as stages:
            operations, outputs = counted(lambda: _through(stages, _LAID_OUT.laid_out(inputs)))
        return operations, tuple(outputs.shape[1:])

    @property
    def row_bytes(self) -> int:
        if self.are_all:
            return 4 * self.bundle.network.feature_dim
        return math.prod(self.shape) * (2 if self.precision == "bf16" else 4)

    def choose_precision(self, state: State | None) -> str:
        """What the plan pins, or what is fastest: bf16 on GPUs that compute in it, and on processors where it measures
        faster; work that is done in seconds is done in fp32, unless these stages were measured before."""
        device = training_device()
        offered = precisions(device) if self.precision == "auto" else [self.precision]
        if device.type == "cuda" or len(offered) == 1:
            return offered[-1]
        work = self.operations * self.rows
        preprocessing = self.bundle.preprocessing
        shape = (_MEASURED_SAMPLES, preprocessing.channels, preprocessing.size, preprocessing.size)
        network = nn.Sequential(*self.bundle.network.stages[: self.count])
        measured = forward_precision(network, shape, state, measure=work >= _MEASURED_OPERATIONS)
        if measured:
            return measured
        return host_precision(device, state) if work >= _CONSIDERED_OPERATIONS else offered[0]


@dataclass(frozen=True)
class _Work:
    """What stages make of a split: what that depends on, and how it is computed.

    Row v · N + i is view v of sample i. Feature vectors are float32. Maps have the type that their last stage computes
    in, bfloat16 as the bits of uint16, and lie pixel by pixel (N, H, W, C), as training reads them.
    """

    stages: _Stages
    split: Split
    views: _Views | None

    @property
    def rows(self) -> int:
        return len(self.split.labels) * (1 if self.views is None else self.views.count)

    @cached_property
    def key(self) -> str:
        """A digest of everything that decides the outputs."""
        bundle = self.stages.bundle
        ids = hashlib.sha256("\n".join(self.split.ids.tolist()).encode()).hexdigest()
        content = {
            "weights": self.stages.digest,
            "architecture": bundle.architecture,
            "vectors": self.stages.are_all,
            "preprocessing": bundle.preprocessing.to_dict(),
            "samples": [ids, self.split.store, *self.split.samples.shape],
            "views": None if self.views is None else [bundle.modality, *asdict(self.views).values()],
            "precision": self.stages.precision,
            "device": training_device().type,
            "versions": versions(),
            "code": os.environ.get(CODE_VARIABLE),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def fits(self, kept: np.ndarray) -> bool:
        """Whether an array can be these outputs."""
        if self.stages.are_all:
            return kept.shape == (self.rows, self.stages.bundle.network.feature_dim) and kept.dtype == np.float32
        return len(kept) == self.rows and kept.ndim > 1 and kept.dtype in (np.float32, np.uint16)

    def batches(self, precision: str, first: int = 0) -> Iterator[np.ndarray]:
        """The rows in their order, from row `first` on, at which a batch must begin."""
        device, samples = training_device(), len(self.split.labels)
        count = int(np.clip(_PIXELS[device.type] // self.stages.bundle.preprocessing.size**2, 8, 512))
        # Of nearly one size, since a last one of few samples would take long for what it is.
        batches = np.array_split(np.arange(samples), max(1, round(samples / count)))
        speed = replace(_LAID_OUT, precision=precision)
        loader = Loader(self.split.samples, device, lambda _: batches)
        with kept_memory(), self.stages.frozen() as stages:
            for view in range(1 if self.views is None else self.views.count):
                for rows in batches:
                    if view * samples + rows[0] >= first:
                        inputs = self._inputs(loader.read(rows, view), rows, view)
                        yield self._stored(self._outputs(stages, inputs, speed))

    def _inputs(self, samples: Tensor, rows: np.ndarray, view: int) -> Tensor:
        bundle = self.stages.bundle
        if self.views is not None:
            kind = modality(bundle.modality)
            draws = torch.from_numpy(uniforms(self.views.seed, view, rows, kind.draws_per_sample))
            method, strength, flip = self.views.method, self.views.strength, self.views.flip
            samples = kind.augment(samples, draws, method=method, strength=strength, flip=flip)
        return bundle.preprocessing(samples)

    def _outputs(self, stages: nn.ModuleList, inputs: Tensor, speed: Speed) -> Tensor:
        with torch.inference_mode(), speed.autocast(inputs.device):
            return _through(stages, speed.laid_out(inputs))

    def _stored(self, outputs: Tensor) -> np.ndarray:
        if self.stages.are_all or outputs.dtype != torch.bfloat16:
            outputs = outputs.float()
        if outputs.ndim == 4:
            outputs = outputs.permute(0, 2, 3, 1)
        outputs = outputs.contiguous().cpu()
        return (outputs.view(torch.uint16) if outputs.dtype == torch.bfloat16 else outputs).numpy()


def _through(stages: nn.ModuleList, inputs: Tensor) -> Tensor:
    for stage in stages:
        inputs = stage(inputs)
    return inputs


def _temporary(work: _Work, state: State | None, pause: Callable[[], None]) -> np.ndarray:
    """The outputs of `work` in a file that is gone when nothing reads it any more."""
    with tempfile.TemporaryFile() as file:
        for batch in work.batches(work.stages.choose_precision(state)):
            file.write(batch.data)
            pause()
        file.flush()
        return np.memmap(file, mode="r", dtype=batch.dtype, shape=(work.rows, *batch.shape[1:]))


def _row_bytes(kept: np.ndarray) -> int:
    return max(1, kept.nbytes // max(1, len(kept)))


def _half_of_free(folder: Path) -> int:
    return shutil.disk_usage(folder).free // 2


class _Cache:
    """The files below a state's folder: <key>.<digest>.npy; while it is made, <key>.part and <key>.json, which says how
    far it is; and <key>.lock, which whoever makes it holds."""

    def __init__(self, state: State) -> None:
        self._state, self._folder = state, state.folder / "features"

    @property
    def limit(self) -> int:
        """The bytes that all files together may take."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return min(_LIMIT, _half_of_free(self._folder) + sum(size for _, size, _ in self._files()) // 2)

    def read(self, work: _Work, pause: Callable[[], None] = lambda: None) -> np.ndarray | None:
        """The outputs of `work`, computed if they are not there yet; None, with a warning, if they cannot be kept.

        Calls `pause` between the batches that it computes.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            kept = self._find(work)
            if kept is None:
                with _locked(self._folder / f"{work.key}.lock"):
                    # Whoever held the lock before may have made it.
                    kept = self._find(work)
                    if kept is None:
                        self._make(work, pause)
                        kept = self._find(work)
            return kept
        except OSError as error:
            log.warning("Frozen features cannot be kept in %s (%s); they are computed.", self._folder, error.strerror)
            return None

    def _find(self, work: _Work) -> np.ndarray | None:
        path = next(self._folder.glob(f"{work.key}.*.npy"), None)
        if path is None:
            return None
        try:
            if not is_intact(path, f"sha256:{path.suffixes[0].removeprefix('.')}"):
                raise ValueError("its content is not what its digest was taken of")
            kept = np.load(path, mmap_mode="r", allow_pickle=False)
            if not work.fits(kept):
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

    def _make(self, work: _Work, pause: Callable[[], None]) -> None:
        part, progress = self._folder / f"{work.key}.part", self._folder / f"{work.key}.json"
        precision, first, end = self._left_off(part, progress)
        if not precision:
            precision = work.stages.choose_precision(self._state)
            self._make_room(work)
        with part.open("r+b" if first else "wb") as file:
            file.truncate(end)
            file.seek(end)
            told = time.monotonic()
            for batch in work.batches(precision, first):
                if not first:
                    header = {"descr": batch.dtype.str, "fortran_order": False, "shape": (work.rows, *batch.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(batch.data)
                first += len(batch)
                if time.monotonic() - told > _TOLD_SECONDS:
                    _flush(file)
                    write_json(progress, {"precision": precision, "rows": first, "bytes": file.tell()})
                    told = time.monotonic()
                pause()
            _flush(file)
        part.replace(self._folder / f"{work.key}.{file_digest(part).removeprefix('sha256:')}.npy")
        progress.unlink(missing_ok=True)

    def _left_off(self, part: Path, progress: Path) -> tuple[str, int, int]:
        """The precision, rows and bytes of what a process that was killed has left; "", 0 and 0 where there is none."""
        try:
            told = json.loads(progress.read_text(encoding="utf-8"))
            if part.stat().st_size < told["bytes"]:
                return "", 0, 0
            return str(told["precision"]), int(told["rows"]), int(told["bytes"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return "", 0, 0

    def _make_room(self, work: _Work) -> None:
        """Removes what was not read for the longest time until `work` fits beside the rest. OSError if it never can."""
        needed, limit = work.rows * work.stages.row_bytes, self.limit
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
        for pattern in ("*.npy", "*.part"):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds `path`, which no two processes do at a time; a process that ends holds nothing."""
    while True:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it before has removed it, and another may hold the one that came after.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    try:
                        yield
                    finally:
                        path.unlink(missing_ok=True)
                    return


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
