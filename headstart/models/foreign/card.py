"""Preprocessing of pictures from a published model's card: timm's pretrained_cfg, or a transformers image processor."""

import math
from collections.abc import Mapping
from typing import Any

from headstart.errors import InputError, shortened
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.modalities.image.section import Interpolation

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PILLOW: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def of_timm(cfg: Mapping[str, Any], *, at: str) -> Preprocessing:
    """Return the evaluation preprocessing that a timm pretrained_cfg describes.

    Raises:
        InputError: a value is missing or cannot be honoured; `at` names the card.
    """
    try:
        channels, height, width = cfg["input_size"]
        if height != width:
            raise InputError(f"{at} reads pictures of {width} x {height} pixels, and only squares are supported.")
        crop, mode = float(cfg.get("crop_pct") or 1), cfg.get("crop_mode") or "center"
        mean, std = (_values(cfg[key], channels) for key in ("mean", "std"))
        if mode == "border":
            return Preprocessing(int(height), int(channels), mean, std, "pad")
        return Preprocessing(
            int(height),
            int(channels),
            mean,
            std,
            "stretch" if mode == "squash" else "crop",
            # As timm rounds.
            resize=math.floor(height / crop),
            interpolation=_interpolation(cfg.get("interpolation") or "bilinear", at),
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(
            f"{at} describes no usable preprocessing ({type(error).__name__}: {shortened(str(error))})."
        ) from None


def of_processor(
    processor: Mapping[str, Any] | None, config: Mapping[str, Any], *, channels: int = 3, at: str
) -> Preprocessing:
    """Return the preprocessing that a transformers image processor's settings describe.

    Without settings it is ImageNet's mean and deviation at the size of the model's configuration.

    Raises:
        InputError: a value cannot be honoured; `at` names the card.
    """
    try:
        if processor is None:
            size = _side(config.get("image_size") or 224)
            mean, std = (each[:channels] for each in (IMAGENET_MEAN, IMAGENET_STD))
            return Preprocessing(size, channels, mean, std, resize=size, interpolation="bilinear")
        size, stretched = _side(processor.get("size") or 224), _is_exact(processor.get("size"))
        resize, interpolation = size, _PILLOW[int(processor.get("resample", 2))]
        crops = processor.get("do_center_crop", False)
        if (share := processor.get("crop_pct")) is not None:
            # ConvNeXt's processor: small sizes are cropped from larger ones, and large ones stretched.
            stretched, crops = size >= 384, False
            resize = size if stretched else int(size / float(share))
        if crops:
            size = _side(processor.get("crop_size") or size)
        if not processor.get("do_resize", True):
            raise InputError(f"{at} reads pictures of any size, and one size is needed; set do_resize.")
        # v / 255 is normalised here; the card's own is v * factor (- 1 with rescale_offset).
        factor = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
        offset = 1.0 if processor.get("rescale_offset") else 0.0
        mean, std = _values(0, channels), _values(1, channels)
        if processor.get("do_normalize", True):
            mean = _values(processor.get("image_mean", IMAGENET_MEAN), channels)
            std = _values(processor.get("image_std", IMAGENET_STD), channels)
        return Preprocessing(
            size,
            channels,
            tuple((offset + value) / (255 * factor) for value in mean),
            tuple(value / (255 * factor) for value in std),
            "stretch" if stretched else "crop",
            resize=resize,
            interpolation=interpolation,
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError) as error:
        raise InputError(
            f"{at} describes no usable preprocessing ({type(error).__name__}: {shortened(str(error))})."
        ) from None


def _side(size: Any) -> int:
    """The side in pixels of a size: a number, a pair, {shortest_edge} or {height, width}."""
    if isinstance(size, Mapping):
        sides = [size[key] for key in ("shortest_edge", "height", "width") if key in size]
    else:
        sides = list(size) if isinstance(size, list | tuple) else [size]
    if len(set(sides)) != 1:
        raise ValueError(f"size {size}")
    return int(sides[0])


def _is_exact(size: Any) -> bool:
    """Whether both sides are given, so that pictures are stretched to them."""
    return isinstance(size, int | list | tuple) or (isinstance(size, Mapping) and "height" in size)


def _values(values: Any, count: int) -> tuple[float, ...]:
    if isinstance(values, int | float):
        return (float(values),) * count
    return tuple(float(value) for value in values)


def _interpolation(name: str, at: str) -> Interpolation:
    for known in _PILLOW.values():
        if name == known:
            return known
    raise InputError(f"{at} asks for the interpolation {shortened(str(name))!r}, which is none of Pillow's usual ones.")
