"""The robustness of a model: its accuracy on test pictures under a fixed set of corruptions.

Kinds and severities follow Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to
common corruptions and perturbations", written for batches of small and large pictures alike: lengths are
shares of the side. Every corruption is a function of the pictures alone, so that two models, and two runs, see the same
pixels.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headstart.metrics.intervals import Interval
from headstart.metrics.wilson import wilson_interval
from headstart.models.bundle import ModelBundle

SEVERITIES = (1, 2, 3)


def gaussian_noise(samples: np.ndarray, severity: int) -> np.ndarray:
    """Independent normal noise on every value, of a standard deviation of 0.06, 0.12 or 0.2 of the range; that of the
    i-th picture is the same in every batch that holds as many before it."""
    noise = np.random.default_rng(severity).standard_normal(samples.shape, dtype=np.float32)
    return _pixels(samples + 255 * (0.06, 0.12, 0.2)[severity - 1] * noise)


def blur(samples: np.ndarray, severity: int) -> np.ndarray:
    """A Gaussian blur of a standard deviation of 2, 4 or 6 hundredths of the side."""
    from scipy.ndimage import gaussian_filter

    sigma = (0.02, 0.04, 0.06)[severity - 1] * samples.shape[1]
    return _pixels(gaussian_filter(samples.astype(np.float32), (0, sigma, sigma, 0), mode="nearest"))


def brightness(samples: np.ndarray, severity: int) -> np.ndarray:
    """Every value raised by 0.15, 0.3 or 0.45 of the range, as by light from elsewhere."""
    return _pixels(samples.astype(np.float32) + 255 * (0.15, 0.3, 0.45)[severity - 1])


def contrast(samples: np.ndarray, severity: int) -> np.ndarray:
    """The distance from the picture's mean shrunk to 0.6, 0.35 or 0.15 of itself."""
    values = samples.astype(np.float32)
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    return _pixels(mean + (0.6, 0.35, 0.15)[severity - 1] * (values - mean))


def rotation(samples: np.ndarray, severity: int) -> np.ndarray:
    """Turned by 8, 16 or 24 degrees about the centre, every second picture the other way, border pixels repeated."""
    from scipy.ndimage import rotate

    angle = (8.0, 16.0, 24.0)[severity - 1]
    turned = np.empty(samples.shape, dtype=np.uint8)
    for way, sign in ((0, 1), (1, -1)):
        half = samples[way::2].astype(np.float32)
        turned[way::2] = _pixels(rotate(half, sign * angle, axes=(2, 1), reshape=False, order=1, mode="nearest"))
    return turned


def pixelation(samples: np.ndarray, severity: int) -> np.ndarray:
    """Seen through a sensor with 0.6, 0.4 or 0.25 of the pixels a side: averaged down and repeated up again."""
    side = samples.shape[1]
    cells = max(2, round((0.6, 0.4, 0.25)[severity - 1] * side))
    edges = np.linspace(0, side, cells + 1).round().astype(int)
    values = samples.astype(np.float32)
    for axis in (1, 2):
        sums = np.add.reduceat(values, edges[:-1], axis=axis)
        widths = np.diff(edges).reshape([-1 if dimension == axis else 1 for dimension in range(4)])
        values = np.repeat(sums / widths, np.diff(edges), axis=axis)
    return _pixels(values)


def jpeg(samples: np.ndarray, severity: int) -> np.ndarray:
    """Saved as a JPEG of quality 40, 20 or 8 and read again."""
    from PIL import Image

    found = np.empty(samples.shape, dtype=np.uint8)
    for sample, target in zip(samples, found, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(sample[:, :, 0] if sample.shape[2] == 1 else sample).save(
            buffer, "JPEG", quality=(40, 20, 8)[severity - 1]
        )
        with Image.open(buffer, formats=("JPEG",)) as image:
            target[:] = np.asarray(image).reshape(sample.shape)
    return found


CORRUPTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "gaussian noise": gaussian_noise,
    "blur": blur,
    "brightness": brightness,
    "contrast": contrast,
    "rotation": rotation,
    "pixelation": pixelation,
    "JPEG": jpeg,
}
"""By name, the corruptions: uint8 (N, H, W, C) and a severity of 1 to 3 to the same shape and type."""


@dataclass(frozen=True)
class Corrupted:
    """The accuracy under one corruption at each of the severities."""

    corruption: str
    accuracies: tuple[Interval, ...]


@dataclass(frozen=True)
class Robustness:
    """The accuracy on `items` test items as they are, and under each corruption."""

    items: int
    clean: Interval
    corrupted: tuple[Corrupted, ...]

    @property
    def mean(self) -> float:
        """The mean accuracy over all corruptions and severities."""
        return float(np.mean([each.value for row in self.corrupted for each in row.accuracies]))


def robustness(bundle: ModelBundle, samples: np.ndarray, labels: np.ndarray, *, confidence: float = 0.95) -> Robustness:
    """The accuracy of a model on samples uint8 (N, H, W, C) with labels (N,), as they are and under every
    corruption, with Wilson's intervals. It takes N times 22 predictions."""

    def judged(seen: np.ndarray) -> Interval:
        hits = int((bundle.predict_logits(seen).argmax(axis=1) == labels).sum())
        return wilson_interval(hits, len(labels), confidence=confidence)

    return Robustness(
        len(labels),
        judged(samples),
        tuple(
            Corrupted(name, tuple(judged(corrupt(samples, severity)) for severity in SEVERITIES))
            for name, corrupt in CORRUPTIONS.items()
        ),
    )


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
