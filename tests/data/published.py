"""Folders laid out as published data sets are, made of the pictures and texts that scikit-learn brings."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn.datasets
from sklearn.datasets import load_digits

SPLITS = ("train", "valid", "test")


def cifar10_in_binary(root: Path, count: int = 600) -> tuple[Path, np.ndarray, np.ndarray]:
    """`root` as cifar-10-batches-bin, of `count` digits on grounds of a colour, a twelfth of it a batch but the last;
    the pictures, uint8 (count, 32, 32, 3), and their labels, in the order of the files."""
    root.mkdir(parents=True)
    digits = load_digits()
    labels = digits.target[:count].astype(np.uint8)
    images = np.zeros((count, 32, 32, 3), np.uint8) + np.array([10, 60, 30], np.uint8)
    images[:, :, :, 0] += np.kron(digits.images[:count], np.ones((4, 4))).astype(np.uint8) * 15
    records = np.hstack([labels[:, None], images.transpose(0, 3, 1, 2).reshape(count, -1)])
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    step = count // 12
    for number, name in enumerate(names):
        part = slice(step * number, step * (number + 1) if number < 5 else count)
        (root / name).write_bytes(records[part].tobytes())
    (root / "batches.meta.txt").write_text("".join(f"{number}\n" for number in range(10)) + "\n")
    return root, images, labels


def articles() -> dict[str, list[str]]:
    """The paragraphs of the descriptions of scikit-learn's data sets, by their names."""
    folder = Path(sklearn.datasets.__file__).parent / "descr"
    found = {}
    for path in sorted(folder.glob("*.rst")):
        paragraphs = (" ".join(part.split()) for part in path.read_text(encoding="utf-8").split("\n\n"))
        found[path.stem] = [each for each in paragraphs if len(each) > 40 and not each.startswith(("=", ".. "))]
    return found


def wikitext_lines() -> dict[str, list[str]]:
    """Lines as WikiText's by split: a headline, an empty line, a section's headline, and paragraphs."""
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number, (name, paragraphs) in enumerate(articles().items()):
        split = SPLITS[{0: 1, 1: 2}.get(number % 5, 0)]
        found[split] += [" \n", f" = {name} = \n", " \n", " = = Text = = \n", " \n"]
        found[split] += [f" {paragraph} \n" for paragraph in paragraphs]
    return found


def wikitext_in_lines(root: Path, suffix: str = "raw") -> Path:
    """`root` as wikitext-103-raw of the first publication."""
    root.mkdir(parents=True)
    for split, lines in wikitext_lines().items():
        (root / f"wiki.{split}.{suffix}").write_text("".join(lines), encoding="utf-8")
    return root


def wikitext_in_tables(root: Path) -> Path:
    """`root` as wikitext-103-raw-v1 of the Hugging Face hub: the training split in two tables."""
    root.mkdir(parents=True)
    for split, lines in wikitext_lines().items():
        name = {"valid": "validation"}.get(split, split)
        # An empty line is an empty text there.
        rows = ["" if line == " \n" else line for line in lines]
        middle = len(rows) // 2
        parts = [rows[:middle], rows[middle:]] if split == "train" else [rows]
        for number, part in enumerate(parts):
            pq.write_table(pa.table({"text": part}), root / f"{name}-{number:05}-of-{len(parts):05}.parquet")
    return root
