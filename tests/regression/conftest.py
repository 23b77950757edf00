from pathlib import Path

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
from tests.judging.contenders import assessed
from tests.regression.discs import SIZE, write_discs

TRAINING = Training(epochs=8)
STRATEGIES = ("zero", "linear_probe", "full")


@pytest.fixture(scope="session")
def context() -> RunContext:
    return RunContext(state=None)


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of two domains: dark ground, and bright ground with more noise."""
    root = tmp_path_factory.mktemp("discs")
    write_discs(root / "source", 160, seed=0)
    write_discs(root / "target", 160, seed=1, noise=20.0, inverted=True)
    return root


def packed(table: Path, place: Path, **more: object) -> Dataset:
    return prepare(Data.of({"uri": str(table), "size": SIZE, "task": "regression", **more}), place)


@pytest.fixture(scope="session")
def source(discs, tmp_path_factory, context) -> ModelBundle:
    dataset = packed(discs / "source" / "labels.csv", tmp_path_factory.mktemp("packed") / "source")
    section = Pretraining.of({"architecture": "convnet", "epochs": 10}, at="pretraining")
    return pretrain(section, dataset, context).bundle


@pytest.fixture(scope="session")
def dataset(discs, tmp_path_factory) -> Dataset:
    shares = {"train": 0.4, "val": 0.1, "test": 0.5}
    place = tmp_path_factory.mktemp("packed") / "target"
    return packed(discs / "target" / "labels.csv", place, split=shares, label_budget=50)


@pytest.fixture(scope="session")
def trained(source, dataset, context) -> dict[str, Trained]:
    """Every strategy and baseline."""
    found = {
        name: transfer(source, dataset, Strategy.of(_strategy(name), at="s"), training=TRAINING, context=context)
        for name in STRATEGIES
    }
    like = Like.of(source)
    return found | {name: BASELINES[name].fit(like, dataset, TRAINING, context) for name in ("scratch", "classical")}


def _strategy(name: str) -> dict[str, str]:
    return {"name": name, "transfer": "partial", "freeze": "all"} if name == "linear_probe" else {
        "name": name, "transfer": name,
    }  # fmt: skip


@pytest.fixture(scope="session")
def assessment(trained, dataset, tmp_path_factory) -> Assessment:
    return assessed(
        trained, dataset, tmp_path_factory.mktemp("contenders"), STRATEGIES, Evaluation(metric="mae", resamples=500)
    )


@pytest.fixture(scope="session")
def source_path(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "bundle"
    source.save(path)
    return path
