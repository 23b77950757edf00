"""The data loading that every tuned peer but timm shares: torchvision's decoder and its v2 transforms on tensors."""

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from benchmarks.peers.work import Work


def tensor_loader(work: Work) -> DataLoader:
    """Batches of training images as torchvision's guide to fast transforms has them: uint8 tensors, decoded by
    torchvision, normalised last.

    In this process: two workers on two cores take from the training what they give.
    """
    return DataLoader(
        ImageFolder(str(work.images / "train"), tensor_transform(work), loader=_read),
        work.batch_size,
        shuffle=True,
        num_workers=0,
    )


def tensor_transform(work: Work) -> v2.Compose:
    """A movement of a few degrees, pixels and percent suits digits, which a mirror does not; a head on frozen features
    does without, as ours."""
    moved = v2.RandomAffine(degrees=9, translate=(0.1, 0.1), scale=(0.8, 1.25))
    return v2.Compose(
        [
            *([] if work.task == "linear_probe" else [moved]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=work.mean, std=work.std),
        ]
    )


def _read(path: str) -> torch.Tensor:
    return decode_image(path, ImageReadMode.RGB)
