from pathlib import Path

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.judging.assessment import Assessment
from headstart.judging.section import Evaluation
from headstart.models.bundle import ModelBundle
from headstart.strategies.baseline import BASELINES, Like
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from headstart.training.trained import Trained
from headstart_pipelines.demo import digits
from headstart_pipelines.which_digits import write_pictures
from tests.judging.contenders import assessed

TRAINING = Training(epochs=8)
STRATEGIES = {
    "zero": {"transfer": "zero"},
    "linear_probe": {"transfer": "partial", "freeze": "all"},
    "full": {"transfer": "full"},
}
NAMES = ("0", "1", "2", "3")
SIZE = 32


@pytest.fixture(scope="session")
def context() -> RunContext:
    return RunContext(state=None)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains of pictures with none to three of four digits: white on black, and dimmer ones."""
    root = tmp_path_factory.mktemp("pictures")
    images, labels = digits()
    few = labels < len(NAMES)
    write_pictures(images[few], labels[few], root / "source", {"train": 500, "test": 60}, seed=0)
    write_pictures(images[few] // 2, labels[few], root / "target", {"train": 160, "test": 120}, seed=1)
    return root


def packed(table: Path, place: Path, **more: object) -> Dataset:
    return prepare(Data.of({"uri": str(table), "size": SIZE, "task": "multi_label", **more}, at="data"), place)


@pytest.fixture(scope="session")
def source(pictures, tmp_path_factory, context) -> ModelBundle:
    dataset = packed(pictures / "source" / "labels.csv", tmp_path_factory.mktemp("packed") / "source")
    section = Pretraining.of({"architecture": "convnet", "epochs": 12}, at="pretraining")
    return pretrain(section, dataset, context).bundle


@pytest.fixture(scope="session")
def dataset(pictures, tmp_path_factory) -> Dataset:
    place = tmp_path_factory.mktemp("packed") / "target"
    return packed(pictures / "target" / "labels.csv", place, label_budget=50)


@pytest.fixture(scope="session")
def trained(source, dataset, context) -> dict[str, Trained]:
    """Every strategy and baseline."""
    found = {
        name: transfer(
            source, dataset, Strategy.of({"name": name, **given}, at="s"), training=TRAINING, context=context
        )
        for name, given in STRATEGIES.items()
    }
    like = Like.of(source)
    return found | {name: BASELINES[name].fit(like, dataset, TRAINING, context) for name in ("scratch", "classical")}


@pytest.fixture(scope="session")
def source_path(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "bundle"
    source.save(path)
    return path


@pytest.fixture(scope="session")
def assessment(trained, dataset, tmp_path_factory) -> Assessment:
    return assessed(
        trained,
        dataset,
        tmp_path_factory.mktemp("contenders"),
        STRATEGIES,
        Evaluation(metric="mean_average_precision", resamples=300),
    )


@pytest.fixture
def marks() -> tuple[np.ndarray, np.ndarray]:
    """Labels of 400 items, a tenth of which is not known, and scores that tell something of them."""
    generator = np.random.default_rng(0)
    labels = (generator.random((400, 5)) < [0.5, 0.3, 0.2, 0.1, 0.05]).astype(np.int8)
    # Rounded, so that there are ties.
    scores = np.round(generator.normal(size=labels.shape) + 1.5 * labels - 0.7, 1)
    labels[generator.random(labels.shape) < 0.1] = -1
    return labels, scores
