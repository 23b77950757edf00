"""`headstart run --runner docker` beside infra/compose.yaml: steps on a network with MLflow and S3 and nothing else."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from headstart.recipe.recipe import Recipe
from headstart_pipelines.demo import digits, mnist_5k, write_folder
from headstart_pipelines.docker import Containers, container, find_image
from headstart_pipelines.resolve import resolve
from tests.services.builds import MLFLOW, STORES, build_images
from tests.services.servers import free_ports
from tests.services.test_compose import Team, commands, sh

pytestmark = pytest.mark.services


@dataclass(frozen=True)
class Confined:
    """A team's servers, the network that steps join, and what a person sets to use both."""

    team: Team
    network: Any
    environment: dict[str, str]


@pytest.fixture(scope="module")
def confined(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    build_images()
    place, (port,) = tmp_path_factory.mktemp("confined"), free_ports(1)
    (place / "infra").mkdir()
    sh(commands("Start").partition("\ndocker")[0], place)
    passwords = dict(line.split("=") for line in (place / "infra" / ".env").read_text().splitlines())
    project = f"headstart-confined-{os.getpid()}"
    variables = {
        "COMPOSE_PROJECT_NAME": project,
        "COMPOSE_ENV_FILES": str(place / "infra" / ".env"),
        "MLFLOW_IMAGE": MLFLOW, "POSTGRES_IMAGE": STORES, "SEAWEEDFS_IMAGE": STORES,
        "MLFLOW_PORT": str(port),
    }  # fmt: skip
    team = Team(place, variables, f"http://127.0.0.1:{port}", passwords["MLFLOW_ADMIN_PASSWORD"])
    client = docker.from_env()
    try:
        team.up()
        network = client.networks.get(f"{project}_steps")
        environment = {
            "MLFLOW_TRACKING_URI": team.uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": team.password,
            "HEADSTART_DOCKER_NETWORK": network.name,
            "HEADSTART_STATE": "s3://record/state",
            "AWS_ENDPOINT_URL": "http://seaweedfs:8333",
            "AWS_ACCESS_KEY_ID": passwords["S3_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": passwords["S3_SECRET_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield Confined(team, network, environment)
    finally:
        client.close()
        team.compose("down --volumes --timeout 5")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's transfer from MNIST to digits, on few pictures of four classes."""
    place = tmp_path_factory.mktemp("recipe")
    for name, load in (("mnist", mnist_5k), ("digits", digits)):
        pictures, labels = load()
        keep = np.sort(np.concatenate([np.flatnonzero(labels == label)[:40] for label in range(4)]))
        write_folder(pictures[keep], labels[keep], place / name)
    (place / "recipe.yaml").write_text(yaml.safe_dump({
        "name": "confined",
        "source": {"data": {"uri": str(place / "mnist"), "size": 16}, "pretraining": {"epochs": 2}},
        "target": {"data": {"uri": str(place / "digits"), "size": 16, "labels_per_class": 5}},
        "strategies": ["zero", "partial"],
        "baselines": ["scratch"],
        "training": {"epochs": 2},
    }))  # fmt: skip
    return place / "recipe.yaml"


def test_the_whole_transfer_runs_on_a_network_of_mlflow_and_s3_alone(
    image: str, confined: Confined, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = recipe.parent / "workspace"
    done = subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", "run", str(recipe), "--workspace", str(workspace),
         "--runner", "docker", "--image", image],
        env=os.environ | confined.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"^  ✓ (.*?)  +\d+\.\d s$", done.stdout, re.MULTILINE)) == [
        "close record", "evaluate", "finetune partial", "finetune zero", "fit baselines", "prepare source",
        "prepare target", "pretrain", "register source", "register target", "select source",
    ]  # fmt: skip
    assert "network" not in done.stderr

    for variable, value in confined.environment.items():
        monkeypatch.setenv(variable, value)
    client = MlflowClient(confined.team.uri)
    version = client.get_model_version("confined-target", "1")
    assert client.list_artifacts(version.run_id), "artifacts went through the server into S3"
    # By the image's user where root calls, as elsewhere by the caller.
    written = [path for path in (workspace / "pipeline").rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in written} == {os.getuid() or 10001}


PROBE = """
import socket, sys
def tried(host, port):
    try:
        with socket.create_connection((host, port), timeout=3):
            return 0
    except socket.gaierror:
        return "unknown"
    except OSError as error:
        return error.errno or "timeout"
with open("/proc/net/route") as routes:
    print("ways-out", sum(line.split()[1] == "00000000" for line in routes))
for place in sys.argv[1:]:
    host, port = place.rsplit(":", 1)
    print(place, tried(host, int(port)))
"""


def probe(image: str, root: Path, options: dict[str, Any], *places: str) -> None:
    """Prints what comes of connecting to places from a step: 0, or what goes wrong."""
    assert Containers(root, options).execute(image, ["python3", "-c", PROBE, *places], print) == 0


def test_a_step_reaches_mlflow_and_s3_and_nothing_else(
    image: str, confined: Confined, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in confined.environment.items():
        monkeypatch.setenv(variable, value)
    root = recipe.parent / "probe" / "pipeline"
    options = container(resolve(Recipe.of(yaml.safe_load(recipe.read_text()))), root, find_image(image)).options
    assert options["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert options["environment"]["HEADSTART_MLFLOW_PAGE"] == confined.team.uri
    database = confined.team.compose("exec -T postgres hostname -i").split()[0]
    outside, metadata = "198.51.100.1:443", "169.254.169.254:80"
    places = ["mlflow:5000", "seaweedfs:8333", "postgres:5432", f"{database}:5432", outside, metadata]

    probe(image, root, options, *places)
    assert dict(line.split() for line in capsys.readouterr().out.splitlines()) == {
        "ways-out": "0",
        "mlflow:5000": "0",
        "seaweedfs:8333": "0",
        "postgres:5432": "unknown",
        f"{database}:5432": str(errno.ENETUNREACH),
        outside: str(errno.ENETUNREACH),
        metadata: str(errno.ENETUNREACH),
    }
    # The network of a step without HEADSTART_DOCKER_NETWORK has one.
    probe(image, root, options | {"network_mode": "bridge"})
    assert capsys.readouterr().out.split() == ["ways-out", "1"]
