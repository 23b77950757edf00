"""Ways to decode a folder of pictures, and to prepare it for training, with the same number of processors.

Each function here takes a folder with a folder a class and gives what does it once, and once more at each call; it
imports what it needs itself.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from benchmarks.loaders import BATCH_SIZE, SIZE, decode_tensor

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def pack(folder: Path, destination: Path, store: Literal["raw", "jpeg"]) -> int:
    """headstart's preparation, in place of what is there; how many images it took in."""
    from headstart.data.prepare import prepare
    from headstart.data.section import Data

    return sum(
        prepare(
            Data.of({"uri": str(folder), "size": SIZE, "split": SHARES, "store": store}), destination
        ).counts.values()
    )


def headstart(folder: Path, scratch: Path, threads: int) -> Callable[[], int]:
    """A packed data set on the disk: hashed, checked for duplicates, split, reported."""
    import headstart.data.prepare  # noqa: F401

    return lambda: pack(folder, scratch, "raw")


def torchvision_v2(folder: Path, scratch: Path, threads: int) -> Callable[[], int]:
    """uint8 tensors in memory, by torchvision's decoder and its transforms on tensors."""
    from torchvision.transforms import v2

    steps = [v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE)]
    return _loaded(folder, threads, transform=v2.Compose(steps), loader=decode_tensor)


def decode_pillow(folder: Path, scratch: Path, threads: int) -> Callable[[], int]:
    """Pixels of the files' own size, which nobody keeps."""
    from PIL import Image

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    return _in_threads(decode, folder.rglob("*.jpg"), threads)


def decode_torchvision(folder: Path, scratch: Path, threads: int) -> Callable[[], int]:
    """Tensors of the files' own size, which nobody keeps."""
    return _in_threads(lambda path: decode_tensor(str(path)), folder.rglob("*.jpg"), threads)


def decode_simplejpeg(folder: Path, scratch: Path, threads: int) -> Callable[[], int]:
    """Arrays of the files' own size, which nobody keeps, by the quickest decoder."""
    from simplejpeg import decode_jpeg

    return _in_threads(lambda path: decode_jpeg(path.read_bytes(), "RGB"), folder.rglob("*.jpg"), threads)


def _loaded(folder: Path, workers: int, **how: Any) -> Callable[[], int]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    loader = DataLoader(ImageFolder(str(folder), **how), BATCH_SIZE, num_workers=workers, persistent_workers=True)
    return lambda: sum(len(images) for images, _ in loader)


def _in_threads(decode: Callable[[Path], object], paths: Iterable[Path], threads: int) -> Callable[[], int]:
    paths = sorted(paths)
    pool = ThreadPoolExecutor(threads)
    return lambda: sum(1 for _ in pool.map(decode, paths))
