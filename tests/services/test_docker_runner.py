"""`headstart run --runner docker`: the steps in containers of the image under test, on this machine."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest
import torch
import torchvision
import yaml
from mlflow import MlflowClient

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from headstart.recipe.recipe import Recipe
from headstart_pipelines.demo import digits, write_folder
from headstart_pipelines.docker import Containers, container, find_image
from headstart_pipelines.resolve import resolve

pytestmark = pytest.mark.services

SECRET = "a-secret-that-no-file-may-hold"
PUBLISHED = "torchvision://mobilenet_v3_small/IMAGENET1K_V1"


@dataclass(frozen=True)
class Answer:
    """What `headstart run` answered, and where it worked."""

    place: Path
    code: int
    out: str
    err: str

    @property
    def worked(self) -> list[str]:
        """The steps that were run."""
        return re.findall(r"^  ✓ (.*?)  +\d+\.\d s$", self.out, re.MULTILINE)

    @property
    def reused(self) -> list[str]:
        """The steps that were reused."""
        return re.findall(r"^  ↺ (.*?)  +reused$", self.out, re.MULTILINE)


def command(place: Path, *options: str) -> list[str]:
    recipe, workspace = place / "recipe.yaml", place / "workspace"
    return [
        sys.executable,
        "-m",
        "headstart_pipelines.cli",
        "run",
        str(recipe),
        "--workspace",
        str(workspace),
        *options,
    ]


def run(place: Path, *options: str, **variables: str) -> Answer:
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": SECRET, **variables}
    done = subprocess.run(command(place, *options), env=environment, capture_output=True, text=True, check=False)
    return Answer(place, done.returncode, done.stdout, done.stderr)


def write(place: Path, pictures: Path, **sections: Any) -> None:
    """A recipe whose source is a bundle in `place` and whose target is a folder of pictures."""
    bundle = ModelBundle(
        build_network("convnet", classes=2, channels=1),
        "convnet",
        "image",
        Preprocessing(16, 1, (0.5,), (0.5,)),
        ("a", "b"),
    )
    bundle.save(place / "bundle")
    recipe = {
        "name": "docker",
        "source": {"candidates": [str(place / "bundle")]},
        "target": {"data": {"uri": str(pictures), "size": 16}},
        "training": {"epochs": 1},
        "strategies": ["zero", "partial"],
        "baselines": ["scratch"],
    }
    (place / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **sections}))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 30 digits."""
    folder = tmp_path_factory.mktemp("pictures")
    images, labels = digits()
    keep = np.concatenate([np.flatnonzero(labels == label)[:30] for label in (0, 1)])
    write_folder(images[keep], labels[keep], folder)
    return folder


@pytest.fixture(scope="module")
def first(image: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    place = tmp_path_factory.mktemp("first")
    write(place, pictures)
    return run(place, "--runner", "docker", "--image", image)


@pytest.fixture(scope="module")
def again(image: str, first: Answer) -> Answer:
    return run(first.place, "--runner", "docker", "--image", image)


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    found = docker.from_env()
    yield found
    found.close()


def left(client: docker.DockerClient, place: Path) -> list[Any]:
    """Containers of a run in `place` that are still there."""
    return client.containers.list(all=True, filters={"volume": str(place / "workspace" / "pipeline")})


def test_a_recipe_runs_in_containers_from_data_to_registration(first: Answer) -> None:
    assert first.code == 0, first.err
    assert sorted(first.worked) == [
        "close record", "evaluate", "finetune partial", "finetune zero", "fit baselines", "prepare target",
        "register target", "select source",
    ]  # fmt: skip
    assert re.search("^registered +models:/docker-target/1$", first.out, re.MULTILINE)


def test_a_second_run_reuses_every_step_that_does_not_write_into_mlflow(again: Answer) -> None:
    """So neither the id of the run's record nor anything else that changes from run to run is in the cache's key."""
    assert again.code == 0, again.err
    assert again.worked == ["evaluate", "register target", "close record"]
    assert sorted(again.reused) == [
        "finetune partial", "finetune zero", "fit baselines", "prepare target", "select source",
    ]  # fmt: skip


def test_other_code_under_the_same_image_name_reuses_nothing(
    image: str, pictures: Path, tmp_path: Path, client: docker.DockerClient
) -> None:
    source = {"data": {"uri": str(pictures), "size": 8}, "pretraining": {"epochs": 1}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "docker", "source": source}))
    name = "headstart-under-test:moving"
    container = client.containers.create(image)
    try:
        client.images.get(image).tag(name)
        before = run(tmp_path, "--runner", "docker", "--image", name)
        container.commit(name, changes='LABEL changed="yes"')
        after = run(tmp_path, "--runner", "docker", "--image", name)
    finally:
        container.remove()
        client.images.remove(name)
    assert (before.code, after.code) == (0, 0), before.err + after.err
    assert after.worked == ["prepare source", "pretrain", "register source", "close record"]


def test_what_steps_write_belongs_to_the_caller_or_where_that_is_root_to_the_images_user(first: Answer) -> None:
    for folder in ("pipeline", "mlartifacts", "state"):
        written = list((first.place / "workspace" / folder).rglob("*"))
        assert written, folder
        assert {path.lstat().st_uid for path in written} == {os.getuid() or 10001}, folder


def test_no_credential_is_written_anywhere(first: Answer, again: Answer) -> None:
    files = [path for path in (first.place / "workspace").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_no_container_stays(first: Answer, client: docker.DockerClient) -> None:
    assert left(client, first.place) == []


@pytest.fixture
def inside(
    image: str,
    pictures: Path,
    tmp_path: Path,
    client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> Callable[[str], tuple[int, str]]:
    """Runs a shell script as a step: its exit status and what it wrote."""
    weights = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth"
    weights.parent.mkdir(parents=True)
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), weights)
    write(tmp_path, pictures, source={"candidates": [str(tmp_path / "bundle"), PUBLISHED]})
    # Relative, as a person may write it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("UNRELATED_PASSWORD", SECRET)
    (tmp_path / "store").mkdir()
    recipe = Recipe.of(yaml.safe_load((tmp_path / "recipe.yaml").read_text()))
    root = tmp_path / "pipeline"
    options = container(resolve(recipe), root, find_image(image)).options

    def call(script: str) -> tuple[int, str]:
        lines: list[str] = []
        status = Containers(root, options).execute(image, ["sh", "-c", script], lines.append)
        return status, "".join(f"{line}\n" for line in lines)

    return call


def test_a_step_reads_data_and_sources_and_cannot_change_them(inside, pictures: Path, tmp_path: Path) -> None:
    for folder in (pictures, tmp_path / "bundle"):
        assert inside(f"ls {folder}")[1].split() == sorted(path.name for path in folder.iterdir())
        status, said = inside(f"touch {folder}/new")
        assert status != 0
        assert "Read-only file system" in said


def test_a_step_reads_published_weights_from_torchs_hub_folder(inside) -> None:
    script = f"from headstart.models.sources import load_source; print(load_source('{PUBLISHED}').architecture)"
    assert inside(f'python3 -c "{script}"') == (0, "mobilenet_v3_small\n")


def test_a_step_reaches_the_local_record(inside, tmp_path: Path) -> None:
    script = "from headstart.tracking.client import connect; connect().create_experiment('made-inside')"
    assert inside(f'python3 -c "{script}"')[0] == 0
    assert MlflowClient(f"sqlite:///{tmp_path}/store/mlflow.db").get_experiment_by_name("made-inside")


def test_a_step_writes_artifacts_record_and_temporary_files_and_nothing_else(inside, tmp_path: Path) -> None:
    assert inside(f"touch {tmp_path}/pipeline/new {tmp_path}/store/new /tmp/new && cat $HOME/new")[0] == 0
    for place in ("/", "/work", "/usr/local/bin", "/root"):
        assert inside(f"touch {place}/new")[0] != 0, place
    # Beside what is mounted there is the container's own /tmp.
    inside(f"touch {tmp_path}/new")
    assert not (tmp_path / "new").exists()


def test_a_step_is_never_root_and_has_no_privilege(inside) -> None:
    status, said = inside("id -u; id -g; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status")
    assert status == 0
    assert said.split() == [
        str(os.getuid() or 10001), str(os.getgid() or 10001),
        "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1",
    ]  # fmt: skip


def test_a_step_has_shared_memory_for_data_loaders_and_a_limit_of_processes(inside) -> None:
    limit = "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max"
    assert inside(f"df --output=size -B 1M /dev/shm | tail -n 1; {limit}")[1].split() == ["2048", "4096"]


def test_a_step_with_a_local_record_has_no_network(inside) -> None:
    assert inside("ls /sys/class/net")[1].split() == ["lo"]


def test_a_step_sees_mlflows_credentials_and_no_other(inside) -> None:
    assert inside("env | grep PASSWORD")[1] == f"MLFLOW_TRACKING_PASSWORD={SECRET}\n"


def test_a_failing_step_is_never_taken_for_done(inside) -> None:
    """Whoever asks for the status of a container that may be gone may take that for success."""
    assert {inside("echo no; exit 3")[0] for _ in range(20)} == {3}


def test_a_killed_step_says_that_memory_probably_ran_out(inside) -> None:
    status, said = inside("sh -c 'kill -9 $$'; exit $?")
    assert status == 137
    assert "memory ran out" in said


def test_output_arrives_line_by_line_whatever_it_holds(inside) -> None:
    line = "gain −0.5 ± σ " * 500
    script = "for _ in range(200): print('gain −0.5 ± σ ' * 500)\nprint('end', end='')"
    assert inside(f'python3 -c "{script}"') == (0, f"{line}\n" * 200 + "end\n")


def test_a_failed_step_is_explained(image: str, pictures: Path, tmp_path: Path) -> None:
    write(tmp_path, pictures, strategies=[{"name": "deep", "transfer": "partial", "freeze": 99}])
    answer = run(tmp_path, "--runner", "docker", "--image", image)
    assert answer.code == 1
    assert answer.err.startswith("headstart: finetune deep failed: strategies.deep.freeze is 99, but convnet has ")


@pytest.mark.parametrize("step", ["prepare_data", "finetune"])
def test_ctrl_c_ends_the_running_container_and_starts_no_other(
    step: str, image: str, pictures: Path, tmp_path: Path, client: docker.DockerClient
) -> None:
    endless = {"epochs": 10_000, "patience": 10_000}
    write(tmp_path, pictures, training=endless, strategies=["partial", "full"], baselines=[])
    process = subprocess.Popen(
        command(tmp_path, "--runner", "docker", "--image", image),
        # So that there is a step that has not begun.
        env={**os.environ, "HEADSTART_STEPS_AT_ONCE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.closing(client.events(decode=True, filters={"type": "container", "event": "start"})) as events:
        for event in events:
            container = client.containers.get(event["id"])
            words = container.attrs["Config"]["Cmd"]
            if words[words.index("--function_to_execute") + 1] == step:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "headstart: Interrupted. The same command goes on from what is done.\n"
    # Both strategies are ready at once; which of the two is first is not promised.
    assert len({"partial", "full"} & set(out.split())) == (1 if step == "finetune" else 0), out
    assert left(client, tmp_path) == []
    run_of = MlflowClient(f"sqlite:///{tmp_path / 'workspace' / 'mlflow.db'}")
    (experiment,) = [found for found in run_of.search_experiments() if found.name == "docker"]
    parents = run_of.search_runs([experiment.experiment_id], "tags.`headstart.pipeline_run` != ''")
    assert [parent.info.status for parent in parents] == ["KILLED"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server on this machine's loopback that also serves the artifacts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "server").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{tmp_path}/server/mlflow.db",
         "--artifacts-destination", str(tmp_path / "server" / "artifacts")],
        env={
            **{key: value for key, value in os.environ.items() if key != "MLFLOW_LOGGING_LEVEL"},
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if "Application startup complete" in line:
            break
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)


def test_steps_reach_an_mlflow_server_on_this_machines_loopback(
    image: str, pictures: Path, tmp_path: Path, server: str
) -> None:
    write(tmp_path, pictures, strategies=["zero"], baselines=[])
    answer = run(tmp_path, "--runner", "docker", "--image", image, MLFLOW_TRACKING_URI=server)
    assert answer.code == 0, answer.err
    assert "steps share this machine's network; HEADSTART_DOCKER_NETWORK narrows that" in answer.err
    request = f"{server}/api/2.0/mlflow/registered-models/get?name=docker-target"
    with urllib.request.urlopen(request) as response:  # noqa: S310
        assert json.load(response)["registered_model"]["name"] == "docker-target"


def test_a_network_that_docker_does_not_have_is_said_before_anything_is_written(
    image: str, pictures: Path, tmp_path: Path, server: str
) -> None:
    write(tmp_path, pictures)
    variables = {"MLFLOW_TRACKING_URI": server, "HEADSTART_DOCKER_NETWORK": "absent"}
    answer = run(tmp_path, "--runner", "docker", "--image", image, **variables)
    assert answer.code == 2
    assert re.fullmatch(r"headstart: HEADSTART_DOCKER_NETWORK names absent, .* docker network create .*\n", answer.err)
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--image", "headstart:absent"], {}, r"no image headstart:absent .*\(make image IMAGE=headstart:absent\)"),
        ([], {"DOCKER_HOST": "unix:///nowhere/docker.sock"}, r"Docker does not answer .* --runner subprocess"),
    ],
    ids=["no such image", "no daemon"],
)
def test_what_is_missing_is_said_before_anything_is_written(
    image: str, pictures: Path, tmp_path: Path, options: list[str], variables: dict[str, str], words: str
) -> None:
    write(tmp_path, pictures)
    answer = run(tmp_path, "--runner", "docker", *options, **variables)
    assert answer.code == 2
    assert re.fullmatch(rf"headstart: .*{words}.*\n", answer.err), answer.err
    assert not (tmp_path / "workspace").exists()
