"""Descriptors of pictures for models without anything deep: pixels, and histograms of gradients."""

import numpy as np

# Larger pictures are averaged down to this side: a classical model on 150 000 raw pixels only fits their noise.
_SIDE = 32
# Gradients are taken at up to twice that side, in 8 x 8 cells.
_CELLS = 8
_ORIENTATIONS = 9


def pixels(samples: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) to float32 (N, side · side · C) in [0, 1], averaged down to at most 32 pixels a side or so."""
    return _averaged(samples, _SIDE).reshape(len(samples), -1)


def gradients(samples: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients of uint8 (N, H, W, C), float32 (N, 7 · 7 · 36) (Dalal and Triggs 2005).

    Gradients of the grey picture are gathered by their direction, of 9 in half a circle, in 8 x 8 cells, each weighing
    by its length and shared among the two directions next to it. Four neighbouring cells make a block, whose values
    have length 1, are cut off at 0.2, and have length 1 again.
    """
    grey = _averaged(samples, 2 * _SIDE).mean(axis=3)
    along, across = np.gradient(grey, axis=(1, 2))
    lengths = np.hypot(along, across)
    direction = np.arctan2(along, across) % np.pi * (_ORIENTATIONS / np.pi)
    lower = np.floor(direction).astype(int)
    share = direction - lower
    histograms = np.zeros((*grey.shape, _ORIENTATIONS), dtype=np.float32)
    for bins, weights in ((lower, 1 - share), (lower + 1, share)):
        # Both can be the same bin at the end of the half circle, so they are added one after the other.
        place = (bins % _ORIENTATIONS)[..., None]
        current = np.take_along_axis(histograms, place, axis=3)
        np.put_along_axis(histograms, place, current + (lengths * weights)[..., None], axis=3)
    for axis in (1, 2):
        edges = np.linspace(0, histograms.shape[axis], _CELLS + 1).astype(int)
        histograms = np.add.reduceat(histograms, edges[:-1], axis=axis)
    corners = [histograms[:, i : i + _CELLS - 1, j : j + _CELLS - 1] for i in (0, 1) for j in (0, 1)]
    blocks = _of_length_1(np.concatenate(corners, axis=3))
    return _of_length_1(np.minimum(blocks, 0.2)).reshape(len(grey), -1)


def _averaged(samples: np.ndarray, side: int) -> np.ndarray:
    """float32 (N, h, w, C) in [0, 1]: blocks averaged so that no more than about `side` pixels a side are left."""
    count, height, width, channels = samples.shape
    factor = max(1, height // side)
    rows, columns = height // factor, width // factor
    blocks = samples[:, : rows * factor, : columns * factor].reshape(count, rows, factor, columns, factor, channels)
    averaged: np.ndarray = blocks.mean(axis=(2, 4), dtype=np.float32) / 255
    return averaged


def _of_length_1(values: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((values**2).sum(axis=-1, keepdims=True) + 1e-6)
    scaled: np.ndarray = values / lengths
    return scaled
