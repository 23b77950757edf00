"""Random numbers per sample, for augmentation that depends on neither the batch, the order nor the process."""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_GOLDEN_INT, _MASK = int(_GOLDEN), 2**64 - 1


def uniforms(seed: int, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """float32 (N, count) in [0, 1), a function of (seed, epoch, sample) alone: neither the batch that a sample is in
    nor the process that reads it changes them.

    Counter-based: the finaliser of SplitMix64 (Steele, Lea and Flood 2014) over seed, epoch, sample and position.

    Args:
        samples: int (N,), the samples' positions in their split.
    """
    key = _mixed(_mixed(np.uint64(seed)) ^ np.uint64(epoch))
    rows = _mixed(key ^ samples.astype(np.uint64))
    # 24 bits are what a float32 in [0, 1) holds exactly.
    bits = _mixed(rows[:, None] ^ _mixed(np.arange(count, dtype=np.uint64))[None, :]) >> np.uint64(40)
    return bits.astype(np.float32) / np.float32(2**24)


def seed_of(seed: int, *place: int) -> int:
    """A seed for a generator that serves one place of a training: an epoch, a step, a rank. Below 2⁶³."""
    key = _mixed_number(seed)
    for number in place:
        key = _mixed_number(key ^ number)
    return key >> 1


def _mixed_number(value: int) -> int:
    """`_mixed` of one number, in a hundredth of numpy's time for one: every step has a seed."""
    mixed = (value + _GOLDEN_INT) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def _mixed(values: np.ndarray | np.uint64) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed = np.asarray(values, dtype=np.uint64) + _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
