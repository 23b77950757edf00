"""The batches of an epoch: a function of (seed, epoch, step), whatever the number of threads and processes."""

import numpy as np


def epoch_batches(samples: int, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The positions of `samples` samples, shuffled, in `batch_count` batches that differ in size by at most one."""
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    return np.array_split(order, batch_count(samples, batch_size))


def shares(batch: np.ndarray, accumulate: int, rank: int, size: int) -> list[np.ndarray]:
    """The share of process `rank` of `size` in each of the batch's `accumulate` micro-batches, in order.

    The processes share each micro-batch, so that batch norm takes its statistics over the samples that one process
    would.
    """
    # Splitting into one takes as long as a hundredth of a small step.
    if accumulate == size == 1:
        return [batch]
    return [np.array_split(piece, size)[rank] for piece in np.array_split(batch, accumulate)]


def batch_count(samples: int, batch_size: int) -> int:
    """The number of batches in an epoch: as few as `batch_size` allows, but none of a single sample, which has no
    variance for batch norm; with a `batch_size` of 1 or 2 a batch may therefore have 2 or 3."""
    return max(1, min(-(-samples // batch_size), samples // 2))
