"""The batches of an epoch: a function of (seed, epoch, step), whatever the number of threads and processes.

Samples that are read in blocks come in an order in which each block is read once an epoch. Its blocks are dealt out to
48 lanes; a lane reads its blocks one after the other, in an order that is new in each epoch, and the samples of each in
random order. A batch takes samples of all lanes in turn. Of processes that train together each reads the samples of its
own lanes, the same in every epoch. docs/studies/streaming.md says how good that order is.
"""

import numpy as np

LANES = 48
"""Blocks that samples are drawn from at a time; many numbers of processes divide it."""


def epoch_batches(
    samples: int, batch_size: int, *, seed: int, epoch: int, blocks: np.ndarray | None = None
) -> list[np.ndarray]:
    """The positions of `samples` samples, shuffled, in `batch_count` batches that differ in size by at most one.

    `blocks` is the number of each sample's block, int (N,), where samples are read in blocks.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(samples)
    if blocks is not None:
        order = _in_lanes(order, blocks, generator)
    return np.array_split(order, batch_count(samples, batch_size))


def shares(
    batch: np.ndarray, accumulate: int, rank: int, size: int, blocks: np.ndarray | None = None
) -> list[np.ndarray]:
    """The share of process `rank` of `size` in each of the batch's `accumulate` micro-batches, in order.

    The processes share each micro-batch, so that batch norm takes its statistics over the samples that one process
    would. Their shares differ by at most one sample, or, where samples are read in `blocks`, by as much as their lanes.
    """
    # Splitting into one takes as long as a hundredth of a small step.
    if accumulate == size == 1:
        return [batch]
    pieces = np.array_split(batch, accumulate)
    if blocks is not None:
        return [piece[_process_of(piece, size, blocks) == rank] for piece in pieces]
    return [np.array_split(piece, size)[rank] for piece in pieces]


def smallest_share(batches: list[np.ndarray], accumulate: int, size: int, blocks: np.ndarray) -> int:
    """The number of samples in the smallest share that one of `size` processes has in a micro-batch."""
    pieces = (piece for batch in batches for piece in np.array_split(batch, accumulate))
    return min(int(np.bincount(_process_of(piece, size, blocks), minlength=size).min()) for piece in pieces)


def batch_count(samples: int, batch_size: int) -> int:
    """The number of batches in an epoch: as few as `batch_size` allows, but none of a single sample, which has no
    variance for batch norm; with a `batch_size` of 1 or 2 a batch may therefore have 2 or 3."""
    return max(1, min(-(-samples // batch_size), samples // 2))


def _in_lanes(shuffled: np.ndarray, blocks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The positions in `shuffled`, lane by lane in turn."""
    block_of = blocks[shuffled]
    turn, lane_of = generator.permutation(int(blocks.max()) + 1)[block_of], block_of % LANES
    # Sorting is stable: the samples of a block stay shuffled.
    by_lane = np.lexsort((turn, lane_of))
    lane_of, sizes = lane_of[by_lane], np.bincount(lane_of, minlength=LANES)
    place = np.arange(len(by_lane)) - (np.cumsum(sizes) - sizes)[lane_of]
    # A lane of more samples has its turn more often, so that all lanes end together.
    return shuffled[by_lane][np.argsort((place + 0.5) / sizes[lane_of], kind="stable")]


def _process_of(positions: np.ndarray, size: int, blocks: np.ndarray) -> np.ndarray:
    """The number of the process, of `size`, that reads the sample at each position."""
    return blocks[positions] % LANES % size
