import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Browser, sync_playwright

from headstart.judging.leaderboard import Leaderboard
from headstart.storage import cache, s3
from headstart.tracking.client import connect
from headstart_pipelines.demo import digits, mnist_5k, write_folder
from tests.services.faults import Faults, faulty_proxy
from tests.services.servers import SeaweedFS, fail
from tests.services.stack import Stack, running_stack

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test, which `make test-services` names."""
    name = os.environ.get("HEADSTART_TEST_IMAGE")
    if not name:
        pytest.skip("HEADSTART_TEST_IMAGE names no image; `make image test-services` builds one and tries it")
    subprocess.run(["docker", "image", "inspect", name], check=True, stdout=subprocess.DEVNULL)  # noqa: S607
    return name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An object store with the bucket `data`."""
    running = SeaweedFS(tmp_path_factory.mktemp("store") / "seaweedfs")
    running.create("data")
    yield running
    running.stop()


@pytest.fixture
def faults(store: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """The environment reaches the store through a proxy that fails as this says, and an empty cache."""
    with faulty_proxy(store.environment["AWS_ENDPOINT_URL"]) as (address, faults):
        for variable, value in (store.environment | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(variable, value)
        # Each request is made once by boto3, so that what repeats it is headstart's.
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(cache, "_LONGEST_WAIT", 0.05)
        s3.client.cache_clear()
        yield faults
        s3.client.cache_clear()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """MLflow on PostgreSQL and SeaweedFS, with passwords."""
    with running_stack() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of a module."""
    if not CHROMIUM.exists():
        fail("The tests with services need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


@pytest.fixture
def record(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the stack, to which the environment and MLflow's own functions point as well."""
    import mlflow

    for variable in ("HEADSTART_PARENT_RUN_ID", "KFP_RUN_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in stack.environment.items():
        monkeypatch.setenv(variable, value)
    mlflow.set_tracking_uri(stack.uri)
    return connect()


@dataclass(frozen=True)
class FinishedRun:
    """What one `headstart run` of the pipeline `transfer` printed and left."""

    experiment: str
    place: Path
    out: str = field(repr=False)
    err: str = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    """Those variables of the environment that nobody may see."""

    @property
    def workspace(self) -> Path:
        return self.place / "workspace"

    @property
    def recipe(self) -> Path:
        return self.place / "recipe.yaml"

    @property
    def leaderboard(self) -> Leaderboard:
        (file,) = self.workspace.glob("pipeline/*/evaluate/leaderboard")
        return Leaderboard.from_json(file.read_text())

    def parent(self, record: MlflowClient) -> Run:
        """The pipeline run's own run, which is named like the complete log."""
        found = re.search(r"^log +.*/([^/]+)\.log$", self.out, re.MULTILINE)
        assert found, self.out
        experiment = record.get_experiment_by_name(self.experiment)
        (run,) = record.search_runs([experiment.experiment_id], f"attributes.run_name = '{found[1]}'")
        return run

    def children(self, record: MlflowClient) -> dict[str, Run]:
        """The runs of its steps and strategies, by name."""
        parent = self.parent(record).info
        found = record.search_runs([parent.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
        return {run.info.run_name: run for run in found}


@pytest.fixture(scope="session")
def finished_run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The pipeline `transfer` on small real data, recorded in the stack, with secrets in its environment."""
    place = tmp_path_factory.mktemp("finished-run")
    for name, load, count in (("mnist", mnist_5k, 80), ("digits", digits, 60)):
        pictures, labels = load()
        keep = np.sort(np.concatenate([np.flatnonzero(labels == k)[:count] for k in range(10)]))
        write_folder(pictures[keep], labels[keep], place / name)
    recipe = {
        "name": "handwriting",
        "source": {"data": {"uri": "mnist", "size": 16}, "pretraining": {"epochs": 24}},
        "target": {
            "data": {
                "uri": "digits", "size": 16, "labels_per_class": 2, "split": {"train": 0.3, "val": 0.2, "test": 0.5},
            },
        },
        "strategies": ["zero", "partial", "full"],
        "training": {"epochs": 4},
        # With a source of so many epochs and so few labels, what is delivered is a strategy's own model.
        "evaluation": {"combinations": []},
    }  # fmt: skip
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    canaries = {
        name: f"canary/{token_urlsafe(18)}"
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "DATABASE_PASSWORD")
    }
    # Whoever writes the password into the address as well must not find it anywhere either.
    address = stack.uri.replace("//", f"//admin:{stack.password}@")
    environment = os.environ | stack.environment | canaries | {
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", "run", "recipe.yaml", "--workspace", "workspace"],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    held = canaries | {"MLFLOW_TRACKING_PASSWORD": stack.password}
    return FinishedRun(recipe["name"], place, done.stdout, done.stderr, environment, held)
