"""Descriptors of pictures for models without anything deep: pixels, and histograms of gradients.

They are computed by torch, so that a model which reads them is a network like another: kept, served and exported.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Larger pictures are averaged down to this side: a classical model on 150 000 raw pixels only fits their noise.
_SIDE = 32
# Gradients are taken at up to twice that side, in 8 x 8 cells.
_CELLS = 8
_ORIENTATIONS = 9


def pixels(maps: Tensor) -> Tensor:
    """float32 (N, C, H, W) in [0, 1] to (N, side · side · C), averaged down to at most 32 pixels a side or so."""
    return _averaged(maps, _SIDE).permute(0, 2, 3, 1).flatten(1)


def gradients(maps: Tensor) -> Tensor:
    """Histograms of oriented gradients of float32 (N, C, H, W) in [0, 1], (N, 7 · 7 · 36) (Dalal and Triggs 2005).

    Gradients of the grey picture are gathered by their direction, of 9 in half a circle, in 8 x 8 cells, each weighing
    by its length and shared among the two directions next to it. Four neighbouring cells make a block, whose values
    have length 1, are cut off at 0.2, and have length 1 again.
    """
    grey = _averaged(maps, 2 * _SIDE).mean(dim=1)
    along, across = _differences(grey, 1), _differences(grey, 2)
    lengths = torch.sqrt(along**2 + across**2)
    direction = torch.remainder(torch.atan2(along, across), math.pi) * (_ORIENTATIONS / math.pi)
    # The weight of a direction falls from 1 at its middle to 0 at that of its neighbours, around the half circle.
    apart = (direction[..., None] - torch.arange(_ORIENTATIONS, device=maps.device)).abs()
    shares = (1 - torch.minimum(apart, _ORIENTATIONS - apart)).clamp(min=0)
    rows, columns = (_cells(side, maps.device) for side in grey.shape[1:])
    histograms = torch.einsum("nhwo,ih,jw->nijo", shares * lengths[..., None], rows, columns)
    corners = [histograms[:, i : i + _CELLS - 1, j : j + _CELLS - 1] for i in (0, 1) for j in (0, 1)]
    blocks = _of_length_1(torch.cat(corners, dim=3))
    return _of_length_1(blocks.clamp(max=0.2)).flatten(1)


def _averaged(maps: Tensor, side: int) -> Tensor:
    """(N, C, h, w): blocks averaged so that no more than about `side` pixels a side are left."""
    factor = max(1, maps.shape[2] // side)
    return F.avg_pool2d(maps, factor) if factor > 1 else maps


def _differences(values: Tensor, axis: int) -> Tensor:
    """Central differences along an axis of (N, H, W), of half the step at its ends, as numpy.gradient has them."""
    count = values.shape[axis]
    inner = (values.narrow(axis, 2, count - 2) - values.narrow(axis, 0, count - 2)) / 2
    first = values.narrow(axis, 1, 1) - values.narrow(axis, 0, 1)
    last = values.narrow(axis, count - 1, 1) - values.narrow(axis, count - 2, 1)
    return torch.cat([first, inner, last], dim=axis)


def _cells(side: int, device: torch.device) -> Tensor:
    """float32 (8, side): 1 where a position belongs to a cell, of which the narrowest share one in pictures of fewer
    than 8 pixels a side."""
    edges = torch.linspace(0, side, _CELLS + 1).int()
    first, last = edges[:-1, None], torch.maximum(edges[1:], edges[:-1] + 1)[:, None]
    positions = torch.arange(side)
    return ((positions >= first) & (positions < last)).float().to(device)


def _of_length_1(values: Tensor) -> Tensor:
    return values / torch.sqrt((values**2).sum(dim=-1, keepdim=True) + 1e-6)
