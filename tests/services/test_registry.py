"""Registration on the real services: killed at every point between two requests, and twice at once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from headstart.judging.evidence import Evidence, figures
from headstart.metrics.classification import classification_metrics
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.recipe.recipe import Recipe
from headstart.tracking.registration import register
from headstart.tracking.registry import Registered
from headstart.tracking.runs import Run, child_run, experiment_named, new_parent
from tests.services.stack import Stack

pytestmark = pytest.mark.services

CLASSES = ("cat", "dog", "owl")
RECIPE = Recipe.of({"name": "pets", "source": {"data": {"uri": "/data/pets"}}})


def write_bundle(path: Path, seed: int, **provenance: Any) -> Path:
    torch.manual_seed(seed)
    ModelBundle(
        network=convnet(classes=3, channels=1),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing(size=16, channels=1, mean=(0.4,), std=(0.2,)),
        classes=CLASSES,
        provenance={"strategy": "full", "data_digest": "sha256:1", "train_digest": "sha256:2", **provenance},
    ).save(path)
    return path


def write_evidence(path: Path) -> Path:
    labels = np.arange(30) % 3
    probabilities = np.eye(3)[labels]
    score = Interval(1.0, 1.0, 1.0)
    Evidence(
        metric="accuracy",
        figures=figures(classification_metrics(labels, probabilities, CLASSES), "accuracy", score),
        sentence="full gains.",
        digests={"data_digest": "sha256:1", "train_digest": "sha256:2", "test_digest": "sha256:3"},
        dataset="/data/packed",
        predictions=Predictions(labels.astype(str), labels, probabilities, CLASSES),
        trained_on=np.array(["a", "b"]),
        report="<!doctype html>",
    ).save(path)
    return path


@pytest.fixture
def run(record: MlflowClient) -> Callable[[], Run]:
    """Makes a step's run."""
    parent = new_parent(record, experiment_named(record, "registering"), name="registering", pipeline_run="run-0")
    return lambda: child_run(parent, "full", {})


@pytest.fixture
def source(record: MlflowClient, run: Callable[[], Run], tmp_path: Path) -> Registered:
    """A registered source."""
    path = write_bundle(tmp_path / "source", 0, role="source")
    return register(run(), path, model="killed-source")


@pytest.fixture
def job(source: Registered, tmp_path: Path) -> dict[str, Any]:
    """What every registration of a test has in common."""
    origin = {"source": source.reference, "source_digest": source.digest}
    return {
        "bundle": str(write_bundle(tmp_path / "bundle", 1, role="target", **origin)),
        "evidence": str(write_evidence(tmp_path / "evidence")),
        "recipe": RECIPE.to_dict(),
    }


@pytest.fixture(scope="module")
def perform(stack: Stack) -> Iterator[Callable[[list[dict[str, Any]]], list[int]]]:
    """Does jobs at once, each in a process of its own, and gives the exit codes."""
    script = Path(__file__).with_name("registering.py")
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, **stack.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(jobs: list[dict[str, Any]]) -> list[int]:
            process.stdin.write(json.dumps(jobs) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


def check_registered(stack: Stack, record: MlflowClient, jobs: list[dict[str, Any]], source: Registered) -> None:
    """Each job's model has one version, with all that belongs to it."""
    digest = bundle_digest(Path(jobs[0]["bundle"]))
    tags = {
        "headstart.role": "target",
        "headstart.strategy": "full",
        "headstart.model_digest": digest,
        "headstart.data_digest": "sha256:1",
        "headstart.train_digest": "sha256:2",
        "headstart.test_digest": "sha256:3",
        "headstart.source_model": source.uri,
        "headstart.source_digest": source.digest,
    }
    experiment = record.get_experiment_by_name("registering").experiment_id
    versions = record.search_model_versions("name LIKE 'pets-%'")
    models = {model.name: model for model in record.search_registered_models("name LIKE 'pets-%'", max_results=1000)}
    links = record.get_model_version(source.model, source.version).tags
    outputs = {run.info.run_id: run.outputs.model_outputs for run in record.search_runs([experiment], max_results=1000)}
    logged = record.search_logged_models([experiment], max_results=1000)
    objects = stack.objects()
    for job in jobs:
        name = job["model"]
        (version,) = (each for each in versions if each.name == name)
        assert version.tags == tags
        assert source.uri in version.description
        assert f"headstart promote {name}" in models[name].description
        assert {alias: str(number) for alias, number in models[name].aliases.items()} == {
            "challenger": str(version.version)
        }
        assert {key: value for key, value in links.items() if key.startswith(f"headstart.descendant/{name}/")} == {
            f"headstart.descendant/{name}/{version.version}": digest
        }
        (model,) = (each for each in logged if each.source_run_id == job["run"])
        assert (model.status, model.model_uri) == ("READY", version.source)
        assert {output.model_id for output in outputs[job["run"]]} == {model.model_id}
        assert {metric.key: metric.value for metric in model.metrics}["test/accuracy"] == 1.0
        kept = {key.partition(f"{model.model_id}/artifacts/")[2]: content for key, content in objects.items()}
        for part in ("bundle", "evidence"):
            for file in Path(job[part]).iterdir():
                assert kept[f"artifacts/{part}/{file.name}"] == file.read_bytes()
        assert {"artifacts/evidence/recipe.json", "MLmodel", "input_example.json"} <= kept.keys()


def test_a_registration_killed_between_any_two_changes_is_completed_by_the_next(
    stack, record, run, source, job, perform
):
    """Requests that only read are not counted: the servers hold the same before and after them."""
    jobs, codes = [], []
    while 0 not in codes:
        numbers = range(len(jobs) + 1, len(jobs) + 9)
        batch = [{**job, "model": f"pets-{number}", "run": run().id, "kill": number} for number in numbers]
        codes = perform(batch)
        assert set(codes) <= {-signal.SIGKILL, 0}
        jobs += batch
    assert len(jobs) - codes.count(0) > 20, "so many changes make a registration"
    for start in range(0, len(jobs), 8):
        again = [{**each, "kill": None} for each in jobs[start : start + 8]]
        assert perform(again) == [0] * len(again)
    check_registered(stack, record, jobs, source)


@pytest.mark.parametrize("request_", ["/logged-models", "/registered-models/create", "/model-versions/create"])
def test_of_two_registrations_of_the_same_model_at_once_one_version_remains(
    stack, record, run, source, job, perform, request_
):
    """Both are held before the same request until both have come to it."""
    job |= {"model": f"pets-twice-{request_.split('/')[1]}", "run": run().id}
    assert perform([{**job, "meet": request_}] * 2) == [0, 0]
    check_registered(stack, record, [job], source)
