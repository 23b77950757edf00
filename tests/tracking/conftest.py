"""MLflow stores: an empty one and one with a registered family, each made once and copied for every test."""

import functools
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.store.db import utils as mlflow_database

from headstart.judging.evidence import Evidence, figures
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.classification import classification_metrics
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.recipe.recipe import Recipe
from headstart.tracking import database
from headstart.tracking.client import connect
from headstart.tracking.names import DATA_DIGEST, MODEL_DIGEST, ROLE, SOURCE_DIGEST, SOURCE_MODEL
from headstart.tracking.registration import register
from headstart.tracking.registry import Registered
from headstart.tracking.runs import Run, child_run, experiment_named, new_parent

# Where a step looks for its run.
RUN_VARIABLES = ("HEADSTART_PARENT_RUN_ID", "KFP_RUN_ID", "MLFLOW_RUN_ID")

MODEL = "pets-target"


@pytest.fixture(autouse=True, scope="session")
def quick_stores() -> Iterator[None]:
    """MLflow reads all of its migrations whenever a store is opened, to see which is the latest."""
    with pytest.MonkeyPatch.context() as patch:
        latest = functools.cache(mlflow_database._get_latest_schema_revision)
        patch.setattr(mlflow_database, "_get_latest_schema_revision", latest)
        yield


def _write_bundle(path: Path, *, seed: int = 0, **provenance: Any) -> Path:
    torch.manual_seed(seed)
    ModelBundle(
        network=convnet(classes=3, channels=1),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing(size=16, channels=1, mean=(0.4,), std=(0.2,)),
        classes=("cat", "dog", "owl"),
        provenance={
            "role": "source",
            "strategy": "pretraining",
            "data_digest": "sha256:1",
            "train_digest": "sha256:2",
            "head": "trained",
        }
        | provenance,
    ).save(path)
    return path


def _write_evidence(path: Path, *, right: int = 50, gain: Interval | None = None, **changes: Any) -> Path:
    """Evidence from 60 test items, of which the first `right` are predicted rightly; `changes` are to its fields."""
    classes = ("cat", "dog", "owl")
    labels = np.arange(60) % 3
    predicted = np.where(np.arange(60) < right, labels, (labels + 1) % 3)
    probabilities = np.full((60, 3), 0.05)
    probabilities[np.arange(60), predicted] = 0.9
    metrics = classification_metrics(labels, probabilities, classes)
    score = bootstrap_interval("accuracy", labels, predicted, 3, resamples=200)
    fields: dict[str, Any] = {
        "metric": "accuracy",
        "figures": figures(metrics, "accuracy", score, gain),
        "sentence": f"The source reaches {score.value:.3f} accuracy.",
        "digests": {"data_digest": "sha256:1", "train_digest": "sha256:2", "test_digest": "sha256:3"},
        "dataset": str(path.parent / "dataset"),
        "predictions": Predictions(np.array([f"{n:02}" for n in range(60)]), labels, probabilities, classes),
        "trained_on": np.array(["train-1", "train-2", "val-1"]),
        "report": "<!doctype html><title>report</title>",
    }
    Evidence(**fields | changes).save(path)
    return path


RECIPE = Recipe.of({"name": "pets", "source": {"data": {"uri": "/data/pets", "fingerprint": "stat:1"}}})


@pytest.fixture
def recipe() -> Recipe:
    """The recipe that the family was made by."""
    return RECIPE


@pytest.fixture
def write_evidence() -> Callable[..., Path]:
    """Writes evidence for a model to a path."""
    return _write_evidence


@pytest.fixture
def bundle() -> Callable[..., Path]:
    """Writes an untrained bundle to a path; `seed` and provenance make its content."""
    return _write_bundle


def _use(monkeypatch: pytest.MonkeyPatch, database: Path, home: Path) -> None:
    """Makes a store the one that MLFLOW_TRACKING_URI names, and `home` where MLflow writes without being asked."""
    import mlflow

    uri = f"sqlite:///{database}"
    monkeypatch.chdir(home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    for variable in RUN_VARIABLES:
        # Set first, so that what a step exports is taken back after the test.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def open_store() -> Callable[..., AbstractContextManager[MlflowClient]]:
    """`open_store(database, home)`: a client of a store while a fixture fills it."""

    @contextmanager
    def opened(database: Path, home: Path) -> Iterator[MlflowClient]:
        with pytest.MonkeyPatch.context() as patch:
            _use(patch, database, home)
            yield connect()

    return opened


# What addresses give a meaning of its own, or have to quote.
# Older releases of SQLAlchemy open no file with a ? in its path.
ODD = "a ?x=1#b%41@é" if database.DECODES else "a x=1#b%41@é"


@pytest.fixture(scope="session")
def made_twice(once: Callable[..., Path]) -> Path:
    """A folder in which two made the same store at once, in a folder with an odd name in which a third was killed
    meanwhile; errors.txt holds what they said."""

    def make(home: Path) -> None:
        workspace = home / "place" / ODD
        workspace.mkdir(parents=True)
        (workspace / ".mlflow.db.draft").write_text("half a database")
        errors: list[str] = []

        def create() -> None:
            try:
                database.create(workspace / "mlflow.db", workspace / "mlartifacts")
            except Exception as error:
                errors.append(repr(error))

        threads = [threading.Thread(target=create) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (home / "errors.txt").write_text("\n".join(errors))

    return once("made-twice", make)


@pytest.fixture(scope="session")
def empty_database(made_twice: Path) -> Path:
    """An MLflow store with nothing in it; making one takes seconds."""
    return made_twice / "place" / ODD / "mlflow.db"


@pytest.fixture(scope="session")
def family_home(once: Callable[..., Path], empty_database: Path, open_store: Callable[..., Any]) -> Path:
    """A store in which pets-source 1 and its descendant pets-target 1, the challenger, are registered; beside it their
    bundles, `source` and `target`, the evidence for them, `source-evidence` and `target-evidence`, and what MLflow
    keeps of them."""

    def make(home: Path) -> None:
        shutil.copy(empty_database, home)
        with open_store(home / "mlflow.db", home):
            run = _new_run(home)
            source = register(
                run,
                _write_bundle(home / "source"),
                model="pets-source",
                evidence=_write_evidence(home / "source-evidence"),
                recipe=RECIPE.to_dict(),
            )
            origin = {"source": source.reference, "source_digest": source.digest}
            target = _write_bundle(home / "target", seed=1, role="target", strategy="full", **origin)
            gain = Interval(0.1, 0.02, 0.18)
            proof = _write_evidence(home / "target-evidence", gain=gain, sentence="helped: full gains +0.100 accuracy.")
            register(run, target, model="pets-target", evidence=proof, recipe=RECIPE.to_dict(), aliases=("challenger",))

    return once("family-mlflow", make)


def _new_run(home: Path, name: str = "step", parent: Run | None = None) -> Run:
    client = connect()
    experiment = experiment_named(client, "pets", artifact_location=(home / "artifacts").as_uri())
    parent = parent or new_parent(client, experiment, name="pets", pipeline_run="run-0")
    return child_run(parent, name, {})


@pytest.fixture
def client(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of an empty store of this test's own."""
    _use(monkeypatch, Path(shutil.copy(empty_database, tmp_path / "mlflow.db")), tmp_path)
    return connect()


@pytest.fixture
def registry(family_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of a store of this test's own with the family in it."""
    _use(monkeypatch, Path(shutil.copy(family_home / "mlflow.db", tmp_path)), tmp_path)
    return connect()


@pytest.fixture
def source(family_home: Path) -> Registered:
    return Registered("pets-source", "1", bundle_digest(family_home / "source"))


@pytest.fixture
def target(family_home: Path) -> Registered:
    return Registered("pets-target", "1", bundle_digest(family_home / "target"))


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    """A new step's run in the experiment pets of this test's store."""
    return lambda *arguments, **named: _new_run(tmp_path, *arguments, **named)


@pytest.fixture
def add(registry, bundle, write_evidence, new_run, source, tmp_path) -> Callable[..., str]:
    """Registers the next version of pets-target, which becomes the challenger; returns its number."""

    def add(right: int = 50, *, bundle_at: Path | None = None, tags: dict[str, str] | None = None, **changes) -> str:
        number = len(registry.search_model_versions(f"name = '{MODEL}'")) + 1
        folder = tmp_path / f"version-{number}" / "artifacts"
        if bundle_at:
            (folder / "bundle").parent.mkdir(parents=True)
            bundle_at.rename(folder / "bundle")
        else:
            bundle(folder / "bundle", seed=100 + number, role="target", strategy="full", source=source.reference)
        write_evidence(folder / "evidence", **{"right": right, "gain": Interval(0.1, 0.02, 0.18)} | changes)
        all_tags = {
            ROLE: "target",
            MODEL_DIGEST: bundle_digest(folder / "bundle"),
            DATA_DIGEST: "sha256:1",
            SOURCE_MODEL: "models:/pets-source/1",
            SOURCE_DIGEST: source.digest,
        } | (tags or {})
        created = registry.create_model_version(MODEL, folder.parent.as_uri(), run_id=new_run().id, tags=all_tags)
        registry.set_registered_model_alias(MODEL, "challenger", created.version)
        return str(created.version)

    return add
