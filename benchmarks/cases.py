"""The cases of the training benchmark: a network, a size, and real digits to carry it to.

The source is trained by headstart on MNIST-5k, the target are scikit-learn's digits: another hand and another scanner.
A case's files lie below the benchmark's directory and are made once; a seed draws its own training, validation and test
samples.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from headstart.data.dataset import SPLITS, Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.storage.local import new_directory
from headstart.strategies.pretraining import pretrain
from headstart.training.context import RunContext
from headstart.training.plan import Plan, make_plan
from headstart.training.section import Pretraining, Training
from headstart_pipelines.demo import digits, mnist_5k, write_folder

TASKS = ("linear_probe", "partial", "full", "scratch")
BATCH_SIZE = 32
CHANNELS = 3


@dataclass(frozen=True)
class Case:
    """`size` is the side of the target's images in pixels; `train`, `val` and `test` count its samples.

    Both sides train for a task's `epochs`, in `precision`. The source is trained on `source_labels` images a class at
    `source_size` pixels for `source_epochs`. `keeps_views`: half of the network costs more than reading what it makes.

    `train` is a multiple of the batch, so that all batches are of one size.
    """

    architecture: str
    size: int
    train: int
    val: int
    test: int
    epochs: dict[str, int]
    precision: str
    keeps_views: bool
    source_size: int
    source_labels: int
    source_epochs: int

    def frozen(self, task: str, stages: int) -> int:
        """How many of the network's stages a task keeps as they are."""
        return {"linear_probe": stages, "partial": -(-stages // 2)}.get(task, 0)

    def from_probe(self, task: str) -> bool:
        """Whether a training begins with a fitted head and fixed batch-norm statistics, as headstart does with few
        samples."""
        return task in ("partial", "full") and self.train < 250

    def plan(self, training: Training, labels: np.ndarray, task: str, network: Network) -> Plan:
        """What headstart makes of the settings: the learning rate, its schedule, the augmentation."""
        if task == "scratch":
            return make_plan(training, labels, pretrained=False, network=network)
        trained = nn.ModuleList([*network.stages[self.frozen(task, len(network.stages)) :], network.head])
        return make_plan(
            training,
            labels,
            pretrained=True,
            network=trained,
            from_probe=self.from_probe(task),
        )


CASES = {
    "convnet-32": Case(
        architecture="convnet",
        size=32,
        train=512,
        val=64,
        test=1000,
        epochs=dict.fromkeys(TASKS, 10),
        precision="fp32",
        keeps_views=False,
        source_size=32,
        source_labels=400,
        source_epochs=6,
    ),
    # Ten epochs at 224 pixels take a core minutes; a rate is known sooner.
    "resnet18-224": Case(
        architecture="resnet18",
        size=224,
        train=96,
        val=20,
        test=200,
        epochs={"linear_probe": 1, "partial": 4, "full": 2, "scratch": 2},
        precision="bf16",
        keeps_views=True,
        source_size=112,
        source_labels=200,
        source_epochs=4,
    ),
}


def source_of(name: str, root: Path) -> Path:
    """The bundle of the case's source; trains it if it is not there yet."""
    case = CASES[name]
    path = root / "sources" / name
    if path.exists():
        return path
    raw = root / "mnist"
    if not raw.exists():
        write_folder(*mnist_5k(), raw)
    packed = prepare(
        Data.of(
            {
                "uri": str(raw),
                "size": case.source_size,
                "channels": CHANNELS,
                "split": {"train": 0.8, "val": 0.1, "test": 0.1},
                "labels_per_class": case.source_labels,
            }
        ),
        root / f"mnist-{case.source_size}",
    )
    training = Pretraining.of({"architecture": case.architecture, "epochs": case.source_epochs})
    fitted = pretrain(training, packed, RunContext())
    print(f"source {name}: validation accuracy {fitted.validation:.3f} after {fitted.seconds:.0f} s", flush=True)
    # It reads the target at the case's size, as the peers do.
    bundle = fitted.bundle
    replace(bundle, preprocessing=replace(bundle.preprocessing, size=case.size)).save(path)
    return path


def target_of(name: str, seed: int, root: Path) -> Path:
    """A directory with the case's target as image folders (images/train/3/0007.png, …), and the same files as a packed
    data set (packed/), by which both sides are judged."""
    path = root / "targets" / f"{name}-{seed}"
    if path.exists():
        return path
    case = CASES[name]
    with new_directory(path) as draft:
        for split, (images, labels) in _draw(case, seed).items():
            write_folder(_enlarged(images, case.size), labels, draft / "images" / split)
        _check(case, prepare(packed_as(draft / "images", case.size), draft / "packed"))
    return path


def packed_as(images: Path, size: int) -> Data:
    """The reference to a target's files, which lie in the folders of their splits."""
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    return Data.of({"uri": str(images), "size": size, "channels": CHANNELS, "split": shares})


def open_target(path: Path) -> Dataset:
    """The packed data set of `target_of`."""
    return Dataset.open(path / "packed")


def open_source(path: Path) -> ModelBundle:
    """The bundle of `source_of`."""
    return ModelBundle.load(path)


def _draw(case: Case, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Samples of each split; all classes have as many in training and validation, give or take one."""
    images, labels = digits()
    # Twice the same picture would be a copy in the data report, and a leak between two splits.
    images, first = np.unique(images, axis=0, return_index=True)
    labels = labels[first]
    random = np.random.default_rng(seed)
    # In the order of their rank within their class, one of each class after the other.
    shuffled = random.permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = np.arange(len(members))
    order = np.lexsort((labels, rank))
    ends = np.cumsum([case.train, case.val, case.test])
    parts = np.split(order[: ends[-1]], ends[:-1])
    return {split: (images[part], labels[part]) for split, part in zip(SPLITS, parts, strict=True)}


def _enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, H, W) → (N, size, size), as `prepare` would enlarge them, so that both sides read the same pixels
    and none has to resize them."""
    from PIL import Image

    kernel = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), kernel)) for image in images])


def _check(case: Case, packed: Dataset) -> None:
    wanted = {"train": case.train, "val": case.val, "test": case.test}
    if packed.counts != wanted or packed.shape != (case.size, case.size, CHANNELS):
        raise SystemExit(f"the packed target has {packed.counts} samples of {packed.shape} instead of {wanted}")
