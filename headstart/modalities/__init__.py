"""Modalities: one package a kind of data, which knows how its samples are read, augmented and corrupted."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.image.corruption import Corruption
    from headstart.modalities.room import Room


class UnreadableSample(InputError):  # noqa: N818 - a sample's state, which callers catch and record
    """A raw sample that cannot become a stored array. Its message is the reason, without the sample's path."""


class Modality(ABC):
    """The rules by which one kind of data is read, augmented and matched with architectures."""

    extensions: frozenset[str]
    """Lower-case file name extensions, with the dot, of the files that hold a sample."""

    default_architecture: str

    draws_per_sample: int
    """The number of random numbers that `augment` takes for a sample."""

    @property
    @abstractmethod
    def decoding(self) -> str:
        """The version of the decoding rules and of the libraries that decode: two runs on one machine with an equal
        one decode to equal bytes."""

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        """The corruptions that robustness is judged under, in the order of the report; none by default."""
        return ()

    @abstractmethod
    def default_size(self, architecture: str) -> int:
        """The side length of a stored sample that suits `architecture`."""

    @abstractmethod
    def contradiction(self, raw: bytes, extension: str) -> str | None:
        """Why a file is refused whose content is of another known format than its extension says; None elsewhere."""

    @abstractmethod
    def pixels(self, raw: bytes, size: int) -> int:
        """The number of pixels that `decode` to `size` works on, by the file's header; raises UnreadableSample."""

    def decode(
        self,
        raw: bytes,
        size: int,
        channels: int | None = None,
        *,
        room: "Room | None" = None,
        patience: float | None = None,
    ) -> "np.ndarray":
        """The stored array, uint8 (size, size, channels), of a file's content; raises UnreadableSample.

        With `channels` None the array has as many channels as the sample itself. The memory for decoding comes out of
        `room`, by default one of the process; NoRoom if it is not free within `patience` seconds.
        """
        return self.decode_sized(raw, size, channels, room=room, patience=patience)[0]

    @abstractmethod
    def decode_sized(
        self,
        raw: bytes,
        size: int,
        channels: int | None = None,
        *,
        room: "Room | None" = None,
        patience: float | None = None,
    ) -> "tuple[np.ndarray, tuple[int, int]]":
        """The array of `decode`, and the sample's own width and height, as it is shown."""

    @abstractmethod
    def augment(
        self, batch: "torch.Tensor", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "torch.Tensor":
        """A variant of each sample of a training batch by the augmentation `method`, on the batch's device.

        `draws`, float32 (N, `draws_per_sample`) in [0, 1), decide alone which; `strength` from 0 to 2 scales how far it
        goes. Shape and type stay as they are.
        """


MODALITIES = Registry(
    "modalities",
    "headstart.modalities",
    "MODALITY",
    Modality,  # type: ignore[type-abstract]
    packages_only=True,
)


def modality(name: str) -> Modality:
    """The modality called `name`; InputError lists the known names."""
    return MODALITIES[name]
