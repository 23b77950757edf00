"""Widening: a network that read fewer channels than a target's samples have reads all of them, and answers as before.

A source that learned from grey pictures would otherwise keep every model that starts from it from seeing colour.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from headstart.models.bundle import ModelBundle
from headstart.models.network import Network, adapt_channels, first_convolution
from headstart.sections import Section

# Samples of noise that have to give the same features, and how far apart these may be: sums are taken in another order.
_COMPARED, _TOLERANCE = 2, 1e-3


def for_samples(source: ModelBundle, given: Section) -> ModelBundle:
    """Return the source as it reads samples that are stored by `given`, with its first convolution widened to all of
    their channels where it read fewer; the features of every sample stay what they were, up to rounding. A network
    whose first layer is no convolution over all channels is not widened. `source` itself is not changed."""
    preprocessing = source.preprocessing.read_as(given)
    if wider := preprocessing.widened(given):
        network = _widened(source.network, source.preprocessing.channels, wider.shares)
        found = network and replace(source, network=network, preprocessing=wider.preprocessing)
        if found and _answer_alike(source, found):
            return found
    return replace(source, preprocessing=preprocessing)


def _widened(network: Network, channels: int, shares: Sequence[float]) -> Network | None:
    first = first_convolution(network)
    if first is None or first.in_channels != channels or first.groups != 1:
        return None
    wide = copy.deepcopy(network)
    adapt_channels(wide, len(shares), shares)
    return wide


def _answer_alike(source: ModelBundle, wide: ModelBundle) -> bool:
    """Whether both make the same of noise: the first convolution may not be what reads the samples."""
    samples = wide.preprocessing.noise(_COMPARED)
    try:
        with torch.random.fork_rng(devices=[]):
            found, expected = (each.predict_features(samples) for each in (wide, source))
    except RuntimeError:
        return False
    return bool(np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.abs(expected).max())))
