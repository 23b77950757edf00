"""A training on two machines: containers of the image under test that the kubeflow SDK starts on this machine."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient

from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.jobs.job import Job, train, transfer_job
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.storage.s3 import client as s3_client
from headstart.strategies.section import Strategy
from headstart.training.context import OnEpoch, RunContext
from headstart.training.section import Training
from headstart_pipelines.demo import digits, write_folder
from tests.services.servers import SeaweedFS

pytestmark = pytest.mark.services

RUNTIME = Path(__file__).parents[2] / "infra" / "trainjob" / "runtime.yaml"
TRAINING = {"batch_size": 9, "precision": "fp32", "layout": "contiguous", "compile": "off", "patience": 1000}
FULL = {"name": "full", "transfer": "full", "schedule": "constant"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[docker.DockerClient]:
    """This machine's Docker; what a test left of its TrainJobs is removed."""
    found = docker.from_env()
    yield found
    for container in of_train_jobs(found):
        container.remove(force=True)
    for network in found.networks.list(filters={"label": "trainer.kubeflow.org/trainjob-name"}):
        network.remove()
    found.close()


def of_train_jobs(client: docker.DockerClient) -> list[Any]:
    return client.containers.list(all=True, filters={"label": "trainer.kubeflow.org/trainjob-name"})


def left(client: docker.DockerClient) -> list[str]:
    """The containers and networks of TrainJobs."""
    networks = client.networks.list(filters={"label": "trainer.kubeflow.org/trainjob-name"})
    return [found.name for found in [*of_train_jobs(client), *networks]]


@pytest.fixture(scope="module")
def store(nodes: docker.DockerClient) -> Iterator[SeaweedFS]:
    """S3 at an address of this machine that containers reach."""
    gateway = nodes.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    with tempfile.TemporaryDirectory(prefix="headstart-store-") as home:
        running = SeaweedFS(Path(home) / "seaweedfs", gateway)
        running.create("state")
        yield running
        running.stop()


@pytest.fixture
def environment(image: str, store: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a step is told that trains on two nodes; each test has a state of its own."""
    told = {
        **store.environment,
        "HOME": str(tmp_path),
        "HEADSTART_NODES": "2",
        "HEADSTART_STATE": f"s3://state/{tmp_path.name}",
        "HEADSTART_CHECKPOINT_SECONDS": "0",
        "HEADSTART_TRAINJOB_BACKEND": "docker",
        "HEADSTART_TRAINJOB_RUNTIME": str(RUNTIME),
        "HEADSTART_TRAINJOB_IMAGE": image,
    }
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    s3_client.cache_clear()
    yield
    s3_client.cache_clear()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, pictures of three digits, and these packed."""
    folder = tmp_path_factory.mktemp("place")
    # Of some weights rounding grows beyond what is allowed below.
    torch.manual_seed(0)
    network = build_network("convnet", classes=2, channels=1)
    ModelBundle(network, "convnet", "image", Preprocessing(16, 1, (0.5,), (0.5,)), ("a", "b")).save(folder / "bundle")
    images, labels = digits()
    keep = np.flatnonzero(np.isin(labels, (3, 5, 8)))[:91]
    write_folder(images[keep], labels[keep], folder / "pictures")
    split = {"train": 0.5, "val": 0.25, "test": 0.25}
    prepare(Data.of({"uri": str(folder / "pictures"), "size": 16, "split": split}), folder / "packed")
    return folder


def context(on_epoch: OnEpoch | None = None) -> RunContext:
    return RunContext(seed=1, on_epoch=on_epoch)


@pytest.fixture
def job(place: Path) -> Callable[..., Job]:
    def make(strategy: object, **training: object) -> Job:
        return transfer_job(
            place / "bundle",
            place / "packed",
            Strategy.model_validate(strategy),
            training=Training.of({**TRAINING, **training}),
            reference=None,
            digest=None,
        )

    return make


def pipeline(place: Path, workspace: Path) -> list[dict[str, float]]:
    """Runs `finetune` with one strategy; the loss curve of it that the record has."""
    recipe = {
        "name": "nodes",
        "source": {"candidates": [str(place / "bundle")]},
        "target": {"data": {"uri": str(place / "pictures"), "size": 16}},
        "training": {**TRAINING, "epochs": 3},
        "strategies": [FULL],
        "baselines": [],
        # Each further training would be a job of its own.
        "evaluation": {"seeds": 1, "curve": []},
    }
    workspace.mkdir()
    (workspace / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", "run", "recipe.yaml", "--workspace", "."],
        cwd=workspace, env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = record.get_experiment_by_name("nodes")
    (run,) = record.search_runs([experiment.experiment_id], "attributes.run_name = 'full'")
    assert run.data.params["processes"] == os.environ.get("HEADSTART_NODES", "1")
    curve: dict[int, dict[str, float]] = {}
    for name in ("train/loss", "val/loss", "val/accuracy"):
        for point in record.get_metric_history(run.info.run_id, name):
            curve.setdefault(point.step, {})[name] = point.value
    return [curve[step] for step in sorted(curve)]


@pytest.mark.usefixtures("environment")
def test_two_nodes_finish_a_step_of_the_pipeline_with_the_loss_curve_of_one_process(
    place, nodes, tmp_path, monkeypatch
):
    two = pipeline(place, tmp_path / "two")
    assert left(nodes) == []
    for variable in ("HEADSTART_NODES", "HEADSTART_STATE"):
        monkeypatch.delenv(variable)
    one = pipeline(place, tmp_path / "one")

    assert len(two) == 4
    assert abs(one[0]["val/loss"] - one[-1]["val/loss"]) > 1e-3
    assert two == [pytest.approx(metrics, abs=1e-4) for metrics in one]


STEP = """
import logging, sys
from pathlib import Path
from headstart.jobs.job import Job, train
from headstart.training.context import RunContext
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
job = Job({kind!r}, Path({dataset!r}), Path({source!r}), {arguments!r})
tell = lambda epoch, metrics: print("epoch", epoch, flush=True)
trained = train(job, RunContext(seed=1, on_epoch=tell))
print("digest", trained.bundle.save(Path({out!r})), flush=True)
"""


def step(job: Job, out: Path) -> "subprocess.Popen[str]":
    """A step's process, which can be killed."""
    paths = {"dataset": str(job.dataset), "source": str(job.source), "out": str(out)}
    script = STEP.format(kind=job.kind, arguments=job.arguments, **paths)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Reads up to the line that matches."""
    assert process.stdout
    read = []
    for line in process.stdout:
        read.append(line)
        if re.search(pattern, line):
            return line
    pytest.fail(f"no line matched {pattern}:\n" + "".join(read))


@pytest.mark.usefixtures("environment")
def test_a_retried_step_adopts_the_job_that_is_still_running(job, nodes, tmp_path):
    training = job(FULL, epochs=10)
    with step(training, tmp_path / "first") as first:
        until(first, "^epoch 1$")
        first.kill()
    started = of_train_jobs(nodes)
    # Held up, so that the job cannot end before the next step looks for it.
    for container in started:
        container.pause()
    with step(training, tmp_path / "second") as second:
        until(second, "runs already; this step waits for it")
        assert {found.id for found in of_train_jobs(nodes)} == {container.id for container in started}
        for container in started:
            container.unpause()
        until(second, "^epoch 10$")
        until(second, "^digest sha256:")
    assert second.returncode == 0
    assert len(ModelBundle.load(tmp_path / "second").provenance["history"]) == 10
    assert left(nodes) == []


@pytest.mark.usefixtures("environment")
def test_a_node_that_is_killed_ends_the_step_which_goes_on_from_the_checkpoint_when_retried(
    job, nodes, tmp_path, capfd
):
    training = job(FULL, epochs=8)

    def kill(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            (second,) = (found for found in of_train_jobs(nodes) if found.name.endswith("node-1"))
            second.kill("SIGKILL")

    with pytest.raises(HeadstartError, match=r"TrainJob headstart-\w{16} ended as Failed and left neither"):
        train(training, context(kill))
    assert "the last lines of node 1" in capfd.readouterr().out
    assert left(nodes) == []

    trained = train(training, context())

    assert "full goes on from its checkpoint" in capfd.readouterr().out
    assert len(trained.history) == 8
    assert left(nodes) == []


@pytest.mark.usefixtures("environment")
def test_a_node_that_is_told_to_stop_writes_its_checkpoint_first(job, nodes, capfd, monkeypatch):
    """As the kubelet does it, with the runtime's preStop."""
    monkeypatch.setenv("HEADSTART_CHECKPOINT_SECONDS", "3600")
    runtime = yaml.safe_load(RUNTIME.read_text())
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 1:
            for found in of_train_jobs(nodes):
                found.exec_run(command, detach=True)

    training = job(FULL, epochs=8)
    with pytest.raises(HeadstartError):
        train(training, context(stop))
    capfd.readouterr()
    assert len(train(training, context()).history) == 8
    assert "full goes on from its checkpoint" in capfd.readouterr().out


@pytest.mark.usefixtures("environment")
def test_what_a_node_cannot_do_is_said_as_one_process_says_it(job, nodes):
    with pytest.raises(InputError, match=r"^strategies\.deep\.freeze is 99, but convnet has .* stages; freeze at most"):
        train(job({"name": "deep", "transfer": "partial", "freeze": 99}), context())
    assert left(nodes) == []


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HEADSTART_STATE", None, r"nodes share no disk: set HEADSTART_STATE to s3://bucket/prefix"),
        ("HEADSTART_STATE", "/tmp", r"see no directory of this machine.*set it to s3://"),  # noqa: S108
        ("HEADSTART_TRAINJOB_BACKEND", "podman", r"HEADSTART_TRAINJOB_BACKEND is 'podman'; set it to kubernetes or"),
        ("HEADSTART_TRAINJOB_RUNTIME", "absent.yaml", r"HEADSTART_TRAINJOB_RUNTIME is 'absent.yaml'; .* set it to the"),
        (
            "HEADSTART_TRAINJOB_IMAGE",
            "headstart:absent",
            r"cannot create the TrainJob headstart-\w+: .*headstart:absent",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(variable, value, words, job, nodes, monkeypatch):
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(HeadstartError, match=words):
        train(job(FULL, epochs=1), context())
    # The SDK leaves the network of a job whose image is missing; a retried step takes it.
    assert of_train_jobs(nodes) == []
