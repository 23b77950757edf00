"""Batches: several named tensors of the same samples, where one tensor does not hold all."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor


def doubled(values: Tensor) -> Tensor:
    """`values` as float64: on the CPU if they are on Apple's GPU, which has no such numbers."""
    return values.double() if values.device.type != "mps" else values.cpu().double()


class Batch(Mapping[str, Tensor]):
    """Tensors (N, …) by name, of N samples each: values, the mask of the padding, and what else a stage reads.

    It cannot be changed. What a training does with a batch it does as with a single tensor: `len`, `[rows]`, `shape`,
    `device`, `to` and `pin_memory`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    def __getitem__(self, key: "str | slice | Tensor") -> "Tensor | Batch":  # type: ignore[override]
        if isinstance(key, str):
            return self._tensors[key]
        return Batch({name: tensor[key] for name, tensor in self._tensors.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._first)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name, of which the second axis, where there is one, is that of the padded length."""
        return MappingProxyType(self._tensors)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the first tensor."""
        return tuple(self._first.shape)

    @property
    def device(self) -> torch.device:
        return self._first.device

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Batch":
        """The same batch on a device."""
        return Batch({name: each.to(device, non_blocking=non_blocking) for name, each in self._tensors.items()})

    def pin_memory(self) -> "Batch":
        """The same batch in memory from which a GPU copies while it computes."""
        return Batch({name: each.pin_memory() for name, each in self._tensors.items()})

    @property
    def _first(self) -> Tensor:
        return next(iter(self._tensors.values()))


Inputs = Tensor | Batch
"""What a network reads or a stage hands on: a tensor (N, …) where one holds all, else a batch."""


def joined(parts: "list[Inputs]") -> Inputs:
    """The samples of several batches in one; those of unequal length are padded alike already."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return Batch({name: torch.cat([part.tensors[name] for part in parts if isinstance(part, Batch)]) for name in first})


def values_of(inputs: Inputs) -> list[Tensor]:
    """The tensors that a stage computed: all but masks and positions, which are no floating-point numbers."""
    tensors = [inputs] if isinstance(inputs, Tensor) else inputs.tensors.values()
    return [tensor for tensor in tensors if tensor.is_floating_point()]
