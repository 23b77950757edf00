"""What the rest of the code asks about a kind of data; a module here answers for each kind."""

from typing import TYPE_CHECKING, Protocol

from headstart.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.room import Room


class UnreadableSample(InputError):  # noqa: N818 - a sample's state, which callers catch and record
    """A raw sample that cannot become a stored array. Its message is the reason, without the sample's path."""


class Modality(Protocol):
    """How a kind of data is read, augmented and matched with architectures. Implemented by a module."""

    extensions: frozenset[str]
    """Lower-case file name extensions, with the dot, of the files that hold a sample."""

    default_architecture: str

    decoding: str
    """What the bytes that `decode` gives depend on besides its arguments: the version of its rules, and of what runs
    them. Two runs with an equal one give equal bytes on one machine."""

    draws_per_sample: int
    """How many random numbers `augment` takes for a sample."""

    def default_size(self, architecture: str) -> int:
        """The side length of a stored sample that suits `architecture` when nobody asked for another."""

    def contradiction(self, raw: bytes, extension: str) -> str | None:
        """What is wrong where a file's content is of another known format than its extension says; None elsewhere."""

    def pixels(self, raw: bytes, size: int) -> int:
        """How many pixels `decode` to `size` works on, by the file's header; raises UnreadableSample."""

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

        With `channels` None the array has as many channels as the sample itself. What decoding takes of memory comes
        out of `room`, by default one of the process; NoRoom if it is not free within `patience` seconds.
        """

    def decode_sized(
        self,
        raw: bytes,
        size: int,
        channels: int | None = None,
        *,
        room: "Room | None" = None,
        patience: float | None = None,
    ) -> "tuple[np.ndarray, tuple[int, int]]":
        """What `decode` gives, and the sample's own width and height, as it is shown."""

    def augment(
        self, batch: "torch.Tensor", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "torch.Tensor":
        """A variant of each sample of a training batch by a method that the recipe names, on the batch's device.

        `draws`, float32 (N, `draws_per_sample`) in [0, 1), decide alone which; `strength` from 0 to 2 scales how far it
        goes. Shape and type stay as they are.
        """


def modality(name: str) -> Modality:
    """The modality called `name`; InputError lists the known names."""
    if name == "image":
        from headstart.modalities import image

        return image
    raise InputError(f"Modality '{name}' is not known; choose one of: image.")
