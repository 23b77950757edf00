"""What a modality computes of its samples without learning, as scikit-learn reads it."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from headstart.data.dataset import Samples
from headstart.errors import InputError
from headstart.modalities import Modality
from headstart.sections import Section

# Samples that are in memory at a time.
_READ = 512


def described(
    samples: Samples, kind: Modality, given: Section, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The descriptors of all samples, which were read by `given`, or of those at positions `rows`, int (n,), read once:
    float32 (N, D) by name.

    Raises:
        InputError: the modality has none.
    """
    rows = np.arange(len(samples)) if rows is None else rows
    if not kind.has_descriptors:
        raise InputError(f"classical: there are no descriptors of {kind.noun}s; leave classical out of the baselines.")
    plain = kind.plain(given)
    starts = range(0, max(1, len(rows)), _READ)
    parts = [kind.descriptors(plain(kind.batch(samples[rows[start : start + _READ]]))) for start in starts]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def columns_of(part: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """The first column of each kind of descriptors and the one after its last, side by side."""
    ends = np.cumsum([0, *(each.shape[1] for each in part.values())]).tolist()
    return dict(zip(part, pairwise(ends), strict=True))


def only(features: np.ndarray, name: str, start: int, stop: int) -> np.ndarray:
    return features[:, start:stop]
