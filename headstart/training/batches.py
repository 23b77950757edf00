"""Training batches whose order and augmentation are functions of (seed, epoch, step) alone."""

from collections.abc import Iterator

import numpy as np
import torch

from headstart.data.dataset import Split
from headstart.modalities import modality


def training_batches(
    split: Split, *, modality_name: str, batch_size: int, augmentation: str, flip: bool, seed: int, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled, augmented batches of one epoch: uint8 (B, H, W, C) and int64 (B,); as many as `batch_count` says.

    Batches differ in size by at most one.
    """
    count = len(split.labels)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    kind = modality(modality_name)
    for step, chosen in enumerate(np.array_split(order, batch_count(count, batch_size))):
        samples = torch.from_numpy(np.ascontiguousarray(split.samples[chosen]))
        if augmentation != "none":
            words = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(words[0]) >> 1)
            samples = kind.augment(samples, generator, method=augmentation, flip=flip)
        yield samples, torch.from_numpy(split.labels[chosen])


def batch_count(samples: int, batch_size: int) -> int:
    """How many batches an epoch has: as few as `batch_size` allows, but none of a single sample, on which batch-norm
    has no variance to take; with a `batch_size` of 1 or 2 a batch may therefore have 2 or 3."""
    return max(1, min(-(-samples // batch_size), samples // 2))
