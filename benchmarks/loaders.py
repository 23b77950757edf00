"""Ways to load an epoch of pictures for a training: cropped, mirrored at random, normalised, float32 batches of 32.

Each function here takes a folder and a number of worker processes and gives what makes epoch after epoch; it imports
what it needs itself, so that a process has the memory of one library alone. The libraries' folder has train/ and val/
with a folder a class, headstart's is a packed data set. The crops are those that each library's own guide to training
shows: a part of 8 to 100 % of the picture, resized (torchvision), the stored square shifted by up to an eighth
(headstart, and whoever has its augmentation).
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from headstart.training.feed import SampleFeed

SIZE, BATCH_SIZE = 224, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SEED = 0

Epochs = Callable[[int], "Iterator[torch.Tensor]"]
"""The batches of an epoch, given its number."""


def headstart(packed: Path, workers: int) -> Epochs:
    """The feed that a training reads; it has no worker processes."""
    return _in_kept_memory(packed, _feed(packed).batch)


def bare_gather(packed: Path, workers: int) -> Epochs:
    """The feed's arithmetic on the same memory map, and nothing else."""
    return _in_kept_memory(packed, Gather(packed).batch)


def torchvision_v2(folder: Path, workers: int) -> Epochs:
    """uint8 tensors up to the end, as torchvision's guide to fast transforms has it."""
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return _epochs(_torch_loader(ImageFolder(str(folder / "train"), transform, loader=decode_tensor), workers))


def in_memory(folder: Path, workers: int) -> Epochs:
    """headstart's augmentation on pictures that an expert decodes in the first epoch and keeps, their borders mirrored
    already: a picture is then one copy of its window."""
    import torch

    std = np.array(STD, dtype=np.float32)
    rows = torch.from_numpy(np.stack([1 / (255 * std), -np.array(MEAN, dtype=np.float32) / std]).astype(np.float32))
    reach, kept = SIZE // 8, []

    def epoch(number: int) -> "Iterator[torch.Tensor]":
        if not kept:
            kept.append(_mirrored_borders(folder, reach))
        pictures, random = kept[0], np.random.default_rng((SEED, number))
        for chosen in np.array_split(random.permutation(len(pictures)), -(-len(pictures) // BATCH_SIZE)):
            batch = np.empty((len(chosen), SIZE, SIZE, 3), dtype=np.uint8)
            places = random.integers(0, 2 * reach + 1, (len(chosen), 2))
            for target, row, (y, x) in zip(batch, chosen, places, strict=True):
                target[:] = pictures[row, y : y + SIZE, x : x + SIZE]
            mirrored = random.random(len(chosen)) < 0.5
            batch[mirrored] = torch.from_numpy(batch[mirrored]).flip(2).numpy()
            values = torch.from_numpy(batch).float()
            yield values.mul_(rows[0]).add_(rows[1]).permute(0, 3, 1, 2)

    return epoch


def _mirrored_borders(folder: Path, reach: int) -> np.ndarray:
    """uint8 (N, SIZE + 2 reach, SIZE + 2 reach, 3), decoded, resized and cut to the square by two threads."""
    from concurrent.futures import ThreadPoolExecutor

    from torchvision.transforms import v2

    steps = v2.Compose([v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE), v2.Pad(reach, padding_mode="reflect")])
    paths = sorted((folder / "train").rglob("*.jpg"))
    pictures = np.empty((len(paths), SIZE + 2 * reach, SIZE + 2 * reach, 3), dtype=np.uint8)

    def fill(number: int) -> None:
        pictures[number] = steps(decode_tensor(str(paths[number]))).permute(1, 2, 0).numpy()

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    return pictures


class Gather:
    """Rows of a memory map, shifted and mirrored as headstart's `crop` says, in float32 and normalised: each pixel is
    copied once from the map to its place, and each value computed once."""

    def __init__(self, packed: Path) -> None:
        import torch

        samples = np.load(packed / "train.npy", mmap_mode="r")
        # Pixels of three bytes, which move as one.
        self._pixels = samples.view("V3")[..., 0]
        std = np.array(STD, dtype=np.float32)
        rows = np.tile([1 / (255 * std), -np.array(MEAN, dtype=np.float32) / std], SIZE)
        self._scale, self._offset = torch.from_numpy(rows)
        self._reach = SIZE // 8

    def batch(self, chosen: np.ndarray, epoch: int) -> "torch.Tensor":
        """float32 (N, 3, SIZE, SIZE), pixel by pixel in memory."""
        import torch

        from headstart.training.draws import uniforms

        draws = uniforms(SEED, epoch, chosen, 3)
        shifts = (draws[:, 1:] * np.float32(2 * self._reach + 1)).astype(int) - self._reach
        pixels = np.empty((len(chosen), SIZE, SIZE, 3), dtype=np.uint8)
        targets = pixels.view("V3")[..., 0]
        for target, row, (down, right) in zip(targets, chosen, shifts.tolist(), strict=True):
            _shift(self._pixels[row], down, right, target)
        mirrored = draws[:, 0] < 0.5
        pixels[mirrored] = torch.from_numpy(pixels[mirrored]).flip(2).numpy()
        values = torch.from_numpy(pixels).float().flatten(2)
        torch.addcmul(self._offset, values, self._scale, out=values)
        return values.view(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2)


def _shift(picture: np.ndarray, down: int, right: int, target: np.ndarray) -> None:
    """Writes the picture from pixel (down, right) on into `target`; beyond the border it is mirrored."""
    if down < 0:
        picture, target, down = picture[::-1], target[::-1], -down
    if right < 0:
        picture, target, right = picture[:, ::-1], target[:, ::-1], -right
    rows, columns = SIZE - down, SIZE - right
    target[:rows, :columns] = picture[down:, right:]
    target[:rows, columns:] = picture[down:, columns - 1 : -1][:, ::-1]
    target[rows:] = target[rows - 1 - down : rows - 1][::-1]


def check_gather(packed: Path) -> None:
    """AssertionError unless the bare gather's batches are the feed's, but for rounding."""
    import torch

    feed, gather = _feed(packed), Gather(packed)
    for number, chosen in itertools.product((1, 2), _batches(packed, 1)[:4]):
        torch.testing.assert_close(gather.batch(chosen, number), feed.batch(chosen, number), atol=1e-5, rtol=0)


def decode_tensor(path: str) -> "torch.Tensor":
    """uint8 (3, H, W)."""
    from torchvision.io import ImageReadMode, decode_image

    return decode_image(path, ImageReadMode.RGB)


def _feed(packed: Path) -> "SampleFeed":
    import torch

    from headstart.data.dataset import Dataset
    from headstart.modalities.image.preprocessing import Preprocessing
    from headstart.training.feed import SampleFeed
    from headstart.training.plan import make_plan
    from headstart.training.section import Training

    dataset = Dataset.open(packed)
    training = Training.of(
        {"batch_size": BATCH_SIZE, "augmentation": "crop", "augmentation_strength": 1.0, "flip": True}
    )
    plan = make_plan(training, dataset.split("train").labels, pretrained=False)
    preprocessing = Preprocessing(SIZE, 3, MEAN, STD)
    return SampleFeed(dataset, preprocessing, plan, seed=SEED, device=torch.device("cpu"))


def _in_kept_memory(packed: Path, batch: "Callable[[np.ndarray, int], torch.Tensor]") -> Epochs:
    """The batches of an epoch as a training has them: in memory that is used again."""
    from headstart.training.memory import kept_memory

    def epoch(number: int) -> "Iterator[torch.Tensor]":
        with kept_memory():
            for chosen in _batches(packed, number):
                yield batch(chosen, number)

    return epoch


def _batches(packed: Path, epoch: int) -> list[np.ndarray]:
    from headstart.data.dataset import Dataset
    from headstart.training.batches import epoch_batches

    return epoch_batches(Dataset.open(packed).counts["train"], BATCH_SIZE, seed=SEED, epoch=epoch)


def _torch_loader(dataset: Any, workers: int) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def _epochs(loader: Any) -> Epochs:
    def epoch(_: int) -> "Iterator[torch.Tensor]":
        for images, _labels in loader:
            yield images

    return epoch
