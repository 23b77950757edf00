"""Checkpoints: the state from which a training resumes at a step, in one file that is there whole or not at all.

It is a safetensors file. Its header holds the record as JSON, the key of the job and the SHA-256 of everything else, so
that no file is read that is damaged, of another job, or of a format that can run code.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from headstart.errors import HeadstartError
from headstart.models.bundle import versions
from headstart.storage.state import State
from headstart.version import CODE_VARIABLE

_FOLDER = "checkpoints"

_LENGTH_BYTES = 8
_DIGEST = "digest"
# The names that safetensors gives to PyTorch's types.
_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and a record of JSON values, which may be NaN or infinite."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


class Checkpoints:
    """The checkpoint of one job, found by the content of the job alone.

    The constructor removes the checkpoints that no job has written for 14 days.

    Args:
        job: JSON values that decide the result of the training. The versions of python, torch and headstart and, where
            `HEADSTART_CODE` gives it, the digest of the code belong to it as well.
        every: seconds from one checkpoint to the time at which another is due.
    """

    def __init__(self, state: State, job: Mapping[str, Any], *, every: float = 60.0) -> None:
        content = {"job": job, "versions": versions(), "code": os.environ.get(CODE_VARIABLE)}
        self.key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self._state = state
        self._every = every
        self._name = f"{_FOLDER}/{self.key}.safetensors"
        state.forget(f"{_FOLDER}/", but=self._name)
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether `every` seconds have passed since this was made or saved to."""
        return time.monotonic() - self._last >= self._every

    def load(self) -> Checkpoint | None:
        """The job's checkpoint with its tensors on the CPU; None if there is none, or none that can be trusted.

        Raises:
            HeadstartError: S3 cannot be read.
        """
        with self._state.draft() as file:
            if not self._state.get(self._name, file):
                return None
            try:
                # The mapped tensors outlive the name that is removed here.
                return _read(file, self.key)
            except (_UnusableError, SafetensorError, OSError) as error:
                log.warning(
                    "The checkpoint %s cannot be used: %s. The training starts from the beginning.", self._name, error
                )
                return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the job's checkpoint. A failure is a warning: it costs a later resumption, not this training."""
        try:
            with self._state.draft() as file:
                _write(file, checkpoint, self.key)
                self._state.put(file, self._name)
        except (OSError, HeadstartError) as error:
            log.warning(
                "The checkpoint %s could not be written (%s); until one is, an interrupted training starts from the "
                "one before.",
                self._name,
                error,
            )
        self._last = time.monotonic()


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser for each of its parameters, as "optimizer.<index>.<key>", not copied.

    `index` counts the parameters over all groups. Parameters that were never stepped have no entries; rates and other
    settings of the groups are not included.
    """
    return {
        f"optimizer.{index}.{key}": value.detach()
        for index, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state.get(parameter, {}).items()
        # SGD without momentum keeps a buffer that is None.
        if value is not None
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads the result of `optimizer_tensors` into an optimiser over the same parameters; ignores other names.

    Each tensor is copied to its parameter's device and memory format, as the optimiser would have made it.
    """
    parameters = _parameters(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            # A count of steps has no layout; torch knows its device.
            empty = torch.empty_like(tensor if key == "step" else parameters[int(index)], dtype=tensor.dtype)
            state.setdefault(int(index), {})[key] = empty.copy_(tensor)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


class _UnusableError(Exception):
    """A file is not this job's checkpoint; the message says why."""


def _write(path: Path, checkpoint: Checkpoint, key: str) -> None:
    """A safetensors file, written tensor by tensor: safetensors' own writer holds a copy of all of them."""
    # By falling size of their elements, so that each stands at a multiple of it.
    order = sorted(checkpoint.tensors, key=lambda name: (-checkpoint.tensors[name].element_size(), name))
    entries: dict[str, Any] = {}
    end = 0
    for name in order:
        tensor = checkpoint.tensors[name]
        start, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]
        }  # fmt: skip
    metadata = {"key": key, "record": json.dumps(checkpoint.record)}
    length = len(_header(entries, metadata, "0" * 64))
    digest = hashlib.sha256(_header(entries, metadata, ""))
    with path.open("wb") as file:
        file.seek(_LENGTH_BYTES + length)
        for name in order:
            flat = checkpoint.tensors[name].detach().cpu().contiguous().reshape(-1)
            content = flat.view(torch.uint8).numpy().data
            digest.update(content)
            file.write(content)
        file.seek(0)
        file.write(length.to_bytes(_LENGTH_BYTES, "little") + _header(entries, metadata, digest.hexdigest()))


def _header(entries: Mapping[str, Any], metadata: Mapping[str, str], digest: str) -> bytes:
    header = json.dumps({"__metadata__": {**metadata, _DIGEST: digest}, **entries}, sort_keys=True).encode()
    # safetensors wants the data to begin at a multiple of 8.
    return header + b" " * (-len(header) % 8)


def _read(path: Path, key: str) -> Checkpoint:
    """The checkpoint in a file whose digest is right; its tensors are mapped from there, privately.

    Raises:
        _UnusableError, SafetensorError, OSError: it is not one of this job, or not whole.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > os.fstat(file.fileno()).st_size - _LENGTH_BYTES:
            raise _UnusableError("it is truncated or no safetensors file")
        try:
            entries = json.loads(file.read(length))
            metadata = entries.pop("__metadata__")
            recorded = metadata.pop(_DIGEST)
            record = json.loads(metadata["record"])
            digest = hashlib.sha256(_header(entries, metadata, ""))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise _UnusableError("its header is not one of a checkpoint") from error
        while part := file.read(2**20):
            digest.update(part)
    if digest.hexdigest() != recorded:
        raise _UnusableError("it is damaged: its content is not what its digest was taken of")
    if metadata.get("key") != key:
        raise _UnusableError("it belongs to another job")
    with safe_open(path, framework="pt") as content:
        return Checkpoint({name: content.get_tensor(name) for name in content.keys()}, record)  # noqa: SIM118


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
