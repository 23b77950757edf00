"""Images: files of the usual raster formats become square uint8 arrays (H, W, C).

The methods import what they need: the names of the modality's augmentations are known without numpy, Pillow and torch.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from headstart.modalities import Modality
from headstart.modalities.image.augmentation import AUGMENTATIONS, mirror
from headstart.modalities.image.formats import FORMAT_OF, contradiction

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.image.corruption import Corruption
    from headstart.modalities.room import Room


class Image(Modality):
    """Pictures, stored as squares."""

    extensions = frozenset(FORMAT_OF)
    default_architecture = "convnet"
    draws_per_sample = 10

    @cached_property
    def decoding(self) -> str:
        return f"image 3, Pillow {version('pillow')}, PyTorch {version('torch')}"

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        from headstart.modalities.image.corruption import CORRUPTIONS

        return [CORRUPTIONS[name] for name in CORRUPTIONS.in_order()]

    def default_size(self, architecture: str) -> int:
        """Side length in pixels: 32 for convnet, 224, on which ImageNet weights are trained, for all others."""
        return 32 if architecture == "convnet" else 224

    def contradiction(self, raw: bytes, extension: str) -> str | None:
        return contradiction(raw, extension)

    def pixels(self, raw: bytes, size: int) -> int:
        from headstart.modalities.image.decoding import pixels

        return pixels(raw, size)

    def decode_sized(
        self,
        raw: bytes,
        size: int,
        channels: int | None = None,
        *,
        room: "Room | None" = None,
        patience: float | None = None,
    ) -> "tuple[np.ndarray, tuple[int, int]]":
        from headstart.modalities.image.decoding import decode

        return decode(raw, size, channels, room=room, patience=patience)

    def augment(
        self, batch: "torch.Tensor", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "torch.Tensor":
        """Moves each picture of a batch (N, H, W, C) as its `draws` say, and mirrors half of them if `flip`.

        `method` is the name of an augmentation, or `views`, which training without labels uses. `flip` suits pictures
        whose meaning survives a mirror, not digits.

        Args:
            batch: uint8; it stays as it is.
            draws: float32 (N, `draws_per_sample`) in [0, 1), on any device.
            strength: the share of the method's ranges that is used, from 0 (nothing moves) to 2.
        """
        if method == "views":
            from headstart.modalities.image.views import VIEWS

            apply = VIEWS.apply
        else:
            apply = AUGMENTATIONS[method].apply
        draws = draws.to(batch.device, non_blocking=True)
        moved = apply(batch, draws, strength)
        return mirror(moved, draws[:, 0] < 0.5) if flip else moved


MODALITY = Image()
