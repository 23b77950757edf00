"""Augmentations: random changes of the samples of a training batch."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstart.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Augmentation:
    """A random change of the samples of a training batch.

    `apply(batch, draws, strength)` takes stored samples, a tensor (N, …) or a `Batch` of several, float32 draws (N,
    `draws_per_sample`) in [0, 1) on the same device, of which column 0 is the mirror's where the modality has one, and
    a strength from 0 (nothing changes) to 2. It returns a batch of the same shape and type in memory of its own, and a
    sample's variant depends on its own draws only.
    """

    apply: "Callable[[Any, torch.Tensor, float], Any]"


def default_first(augmentations: Registry[Augmentation], default: str) -> list[str]:
    """The names that a recipe can choose, `none` left out, the default one first."""
    return [default, *(name for name in augmentations if name not in ("none", default))]


def augmented(
    batch: Any,
    draws: "torch.Tensor",
    *,
    method: str,
    strength: float,
    augmentations: Registry[Augmentation],
    package: str,
) -> Any:
    """A variant of each sample of a batch by the augmentation `method`, or by VIEWS of the modality's `package`, which
    is imported where it is asked for."""
    found: Augmentation = import_module(f"{package}.views").VIEWS if method == "views" else augmentations[method]
    return found.apply(batch, draws.to(batch.device, non_blocking=True), strength)
