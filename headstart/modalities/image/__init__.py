"""Images: files of the usual raster formats become square uint8 arrays (H, W, C).

The methods import what they need: the names of the modality's augmentations are known without numpy, Pillow and torch.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headstart.modalities import Decoded, Modality, Shape
from headstart.modalities.augmentation import augmented, default_first
from headstart.modalities.image.augmentation import AUGMENTATIONS, mirror
from headstart.modalities.image.formats import FORMAT_OF, contradiction
from headstart.modalities.image.section import ImageInput

if TYPE_CHECKING:
    import numpy as np
    import torch

    from headstart.modalities.alike import Alike
    from headstart.modalities.batch import Inputs
    from headstart.modalities.codec import Codec
    from headstart.modalities.corruption import Corruption
    from headstart.modalities.image.preprocessing import Preprocessing
    from headstart.modalities.preprocessing import Samples
    from headstart.modalities.room import Room
    from headstart.sections import Section

_DEFAULT_AUGMENTATION = "affine"
# The share of a picture's area whose loss is much, and that of pictures which are many.
_MUCH, _MANY = 0.25, 0.1


class Image(Modality):
    """Pictures, stored as squares."""

    name = "image"
    noun = "picture"
    mirrors = True
    values = "pixels"
    extensions = frozenset(FORMAT_OF)
    input = ImageInput
    default_architecture = "convnet"
    draws_per_sample = 10

    @cached_property
    def decoding(self) -> str:
        return f"image 3, Pillow {version('pillow')}, PyTorch {version('torch')}"

    @property
    def augmentations(self) -> Collection[str]:
        return default_first(AUGMENTATIONS, _DEFAULT_AUGMENTATION)

    def default_size(self, architecture: str) -> int:
        """Side length in pixels: 32 for convnet, 224, on which ImageNet weights are trained, for all others."""
        return 32 if architecture == "convnet" else 224

    def settled(self, given: Mapping[str, Any], architecture: str) -> dict[str, Any]:
        section = ImageInput.of(given)
        return {**section.model_dump(), "size": section.size or self.default_size(architecture)}

    def probe(self, given: Mapping[str, Any]) -> "Section":
        return ImageInput(size=8)

    def contradiction(self, raw: bytes, extension: str) -> str | None:
        return contradiction(raw, extension)

    def cost(self, raw: bytes, given: "Section") -> int:
        """The number of pixels that the decoder works on."""
        from headstart.modalities.image.decoding import pixels

        return pixels(raw, _size(given), resize=_image(given).resize)

    def pixels(self, raw: bytes, size: int) -> int:
        """As `cost`, for a side of `size` pixels: the serving code that models of earlier versions carry calls it."""
        return self.cost(raw, ImageInput.model_construct(size=size))

    def decode(
        self,
        raw: bytes,
        given: "Section | int",
        channels: int | None = None,
        *,
        room: "Room | None" = None,
        patience: float | None = None,
    ) -> Any:
        """uint8 (size, size, channels), of as many channels as the picture itself has where none are asked for, and the
        picture's own width and height in pixels, as it is shown.

        The serving code that models of earlier versions carry gives a size and channels, and takes the array alone.
        """
        from headstart.modalities.image.decoding import decode

        if isinstance(given, int):
            return decode(raw, given, channels, room=room, patience=patience)[0]

        values, (width, height) = decode(
            raw,
            _size(given),
            _image(given).channels,
            fit=_image(given).fit,
            resize=_image(given).resize,
            interpolation=_image(given).interpolation,
            room=room,
            patience=patience,
        )
        return Decoded(values, {"width": width, "height": height})

    def usual_shape(self, given: "Section") -> tuple[int, ...]:
        return _size(given), _size(given), _image(given).channels or 3

    def shape_of(self, shapes: Iterable[tuple[int, ...]], given: "Section") -> Shape:
        """Grey where all pictures are."""
        return _size(given), _size(given), _image(given).channels or max(shape[2] for shape in shapes)

    def as_stored(self, given: "Section", shape: Shape) -> "Section":
        return given.model_copy(update={"channels": shape[2]})

    def fitted(self, values: "np.ndarray", shape: Shape) -> "np.ndarray":
        import numpy as np

        # A grey picture among coloured ones broadcasts over the channels.
        return values if values.shape == shape else np.ascontiguousarray(np.broadcast_to(values, shape))  # type: ignore[arg-type]

    def fit(self, samples: "Samples", given: "Section") -> "Preprocessing":
        from headstart.modalities.image.preprocessing import Preprocessing

        fitted = Preprocessing.fit(samples, _size(given), _image(given).channels or 3, fitted_by=_image(given).fit)
        return fitted.read_as(given)

    def preprocessing(self, content: Mapping[str, Any]) -> "Preprocessing":
        from headstart.modalities.image.preprocessing import Preprocessing

        return Preprocessing.from_dict(content)

    def augment(
        self, batch: "Inputs", draws: "torch.Tensor", *, method: str, strength: float = 1.0, flip: bool = False
    ) -> "torch.Tensor":
        """Moves each picture of a batch (N, H, W, C) as its `draws` say, and mirrors half of them if `flip`.

        `method` is the name of an augmentation, or `views`, which training without labels uses. `flip` suits pictures
        whose meaning survives a mirror, not digits.

        Args:
            batch: uint8; it stays as it is.
            draws: float32 (N, `draws_per_sample`) in [0, 1), on any device.
            strength: the share of the method's ranges that is used, from 0 (nothing moves) to 2.
        """
        draws = draws.to(batch.device, non_blocking=True)
        moved: torch.Tensor = augmented(
            batch, draws, method=method, strength=strength, augmentations=AUGMENTATIONS, package=__package__
        )
        return mirror(moved, draws[:, 0] < 0.5) if flip else moved

    def examples(self, preprocessing: Any) -> list[bytes]:
        from headstart.modalities.image.showing import examples

        return examples(preprocessing.size)

    def as_files(self, value: object) -> "Iterator[bytes] | None":
        from headstart.modalities.image.encoding import as_files

        return as_files(value)

    @property
    def alike(self) -> "Alike":  # type: ignore[override]
        from headstart.modalities.image.near_duplicates import LOOKS_ALIKE

        return LOOKS_ALIKE

    @property
    def codec(self) -> "Codec":  # type: ignore[override]
        from headstart.modalities.image.jpeg import JPEG

        return JPEG

    @property
    def corruptions(self) -> "Sequence[Corruption]":
        from headstart.modalities.image.corruption import CORRUPTIONS

        return [CORRUPTIONS[name] for name in CORRUPTIONS.in_order()]

    def descriptors(self, inputs: "Inputs") -> "Mapping[str, torch.Tensor]":
        from headstart.modalities.image.descriptors import gradients, pixels

        return {"pixels": pixels(inputs), "gradients": gradients(inputs)}  # type: ignore[arg-type]

    def plain(self, given: "Section") -> "Preprocessing":
        """Values from 0 to 1."""
        from headstart.modalities.image.preprocessing import Preprocessing

        channels = _image(given).channels or 3
        return Preprocessing(_size(given), channels, (0.0,) * channels, (1.0,) * channels).read_as(given)

    def as_html(
        self, values: "np.ndarray", alt: str, given: "Section", *, heat: "np.ndarray | None" = None, small: bool = False
    ) -> str:
        from headstart.modalities.image.showing import as_html

        return as_html(values, alt, heat=heat, small=small)

    def notes(self, facts: Sequence[Mapping[str, Any]], given: "Section") -> list[str]:
        """Whether the centred crop costs many pictures much."""
        if _image(given).fit != "crop":
            return []
        lost = sum(
            min(each["width"], each["height"]) / max(each["width"], each["height"]) < 1 - _MUCH for each in facts
        )
        share = lost / len(facts)
        if share < _MANY:
            return []
        return [
            f"{share:.0%} of the pictures lose over a quarter of their area to the centred crop. input: "
            "{fit: pad} or {fit: stretch} keeps them whole."
        ]

    def lost(self, read: "Section", stored: "Section") -> str | None:
        return "their colour, as it reads grey" if _image(read).channels == 1 and _image(stored).channels == 3 else None

    def in_words(self, shape: Shape) -> tuple[str, str]:
        return f"{shape[0]} × {shape[1]}", f"pixels, {'grey' if shape[2] == 1 else 'RGB'}"

    def data_report(self, facts: Sequence[Mapping[str, Any]], shape: Shape, given: "Section") -> str:
        import numpy as np

        from headstart.modalities.image.dimensions import render_dimensions

        sides = np.fromiter((each[side] for each in facts for side in ("width", "height")), dtype=np.int64)
        return render_dimensions(sides.reshape(-1, 2), stored=shape[0] or 0, fit=_image(given).fit)


def _size(given: Any) -> int:
    """The side in pixels of a section that `settled` has filled, or that of the default architecture."""
    return given.size or MODALITY.default_size(MODALITY.default_architecture)


def _image(given: Any) -> ImageInput:
    section: ImageInput = given
    return section


MODALITY = Image()
