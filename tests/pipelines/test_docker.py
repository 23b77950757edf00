"""What Docker is told, where no Docker is needed to know it; tests/services/test_docker_runner.py runs containers."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.errors import InputError
from headstart.recipe.recipe import Recipe
from headstart_pipelines import docker
from headstart_pipelines.docker import Image
from headstart_pipelines.network import choose
from headstart_pipelines.runner.processes import Step

IMAGE = Image("headstart:dev", "sha256:0", "10001:10001")
NO_CLIENT: Any = None


class Docker:
    """The networks and containers that a Docker client tells of; the container's names are Compose's."""

    def __init__(self, *, internal: bool = True, ports: Mapping[str, Any] | None = None) -> None:
        joined = {"steps": {"Aliases": ["headstart-mlflow-1", "mlflow"]}}
        container = SimpleNamespace(
            id="0123456789abcdef",
            name="headstart-mlflow-1",
            labels={"com.docker.compose.service": "mlflow"},
            attrs={"NetworkSettings": {"Ports": ports or {}, "Networks": joined}},
        )
        network = SimpleNamespace(name="steps", attrs={"Internal": internal, "Containers": {container.id: {}}})
        self.networks = SimpleNamespace(get={"steps": network}.__getitem__)
        self.containers = SimpleNamespace(get={container.id: container}.__getitem__)


PUBLISHED = {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5050"}], "9000/tcp": None}


@pytest.mark.parametrize(
    ("addresses", "mode", "says"),
    [
        (["sqlite:////data/mlflow.db", "/data/state", "some text: 1"], "none", ""),
        (["http://localhost:5000"], "host", "HEADSTART_DOCKER_NETWORK narrows that"),
        (["http://127.0.0.1:5000", "https://s3.example.org"], "host", "HEADSTART_DOCKER_NETWORK narrows that"),
        (["https://mlflow.example.org"], "bridge", "HEADSTART_DOCKER_NETWORK narrows that"),
    ],
)
def test_steps_get_no_wider_network_than_their_servers_need(addresses: list[str], mode: str, says: str) -> None:
    network = choose(NO_CLIENT, addresses, None)
    assert network.mode == mode
    assert says in network.note
    assert bool(says) == bool(network.note)


def test_a_record_in_files_needs_no_network_even_where_one_is_named() -> None:
    assert choose(NO_CLIENT, ["sqlite:////data/mlflow.db"], "steps").mode == "none"


@pytest.mark.parametrize("listens", ["127.0.0.1", "0.0.0.0", "::", ""])  # noqa: S104
def test_a_published_server_is_found_by_its_name_on_the_network(listens: str) -> None:
    ports = {"5000/tcp": [{"HostIp": listens, "HostPort": "5050"}]}
    network = choose(Docker(ports=ports), ["http://localhost:5050", "http://seaweedfs:8333"], "steps")
    assert (network.mode, network.note) == ("steps", "")
    assert network.inside("http://admin:a/b@localhost:5050/path?x=1") == "http://admin:a/b@localhost:5050/path?x=1"
    assert network.inside("http://admin:pass@localhost:5050/path?x=1") == "http://admin:pass@mlflow:5000/path?x=1"
    for other in ("http://seaweedfs:8333", "http://localhost:5051", "s3://bucket/key", "/a/path", "text", "http://[::"):
        assert network.inside(other) == other


@pytest.mark.parametrize("ports", [{}, {"5000/tcp": [{"HostIp": "192.0.2.7", "HostPort": "5050"}]}])
def test_a_loopback_server_that_is_not_on_the_network_is_named_without_its_password(ports: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"http://127\.0\.0\.1:5050 is on .*no container on the network steps"
    ) as refused:
        choose(Docker(ports=ports), ["http://admin:secret@127.0.0.1:5050"], "steps")
    assert "secret" not in str(refused.value)


def test_a_network_that_leads_out_is_said() -> None:
    network = choose(Docker(internal=False, ports=PUBLISHED), ["http://127.0.0.1:5050"], "steps")
    assert "steps is not internal" in network.note


def test_a_bucket_is_behind_its_endpoint_or_else_at_aws() -> None:
    state = ["s3://bucket/state", "torchvision://resnet18/DEFAULT"]
    assert docker._servers(state, {}) == ["https://s3.amazonaws.com"]
    assert docker._servers(state, {"AWS_ENDPOINT_URL": "http://s3:8333"}) == ["http://s3:8333"]


@pytest.mark.parametrize(
    ("runtimes", "visible", "asked"),
    [
        (["runc"], None, []),
        (["runc", "nvidia"], None, [(-1, None)]),
        (["runc", "nvidia"], "0,GPU-aa", [(0, ["0", "GPU-aa"])]),
        (["runc", "nvidia"], "1,-1,0", [(0, ["1"])]),
        (["runc", "nvidia"], "-1", []),
        (["runc", "nvidia"], "", []),
    ],
)
def test_steps_get_the_gpus_that_docker_has_and_the_caller_sees(
    runtimes: list[str], visible: str | None, asked: list[tuple[int, list[str] | None]]
) -> None:
    requests = docker._gpus({"Runtimes": {runtime: {} for runtime in runtimes}}, visible)
    assert [(request["Count"] or 0, request["DeviceIDs"] or None) for request in requests] == asked
    assert all(request["Capabilities"] == [["gpu"]] for request in requests)


def test_an_ordinary_caller_is_the_containers_user_whatever_the_images_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 56)
    assert docker._user(Image("headstart:dev", "sha256:0", "root")) == "1234:56"


@pytest.mark.parametrize(("user", "used"), [("10001:10001", "10001:10001"), ("10001", "10001:10001"), ("7:0", "7:0")])
def test_root_runs_steps_as_the_images_user(user: str, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert docker._user(Image("headstart:dev", "sha256:0", user)) == used


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "headstart"])
def test_root_runs_no_image_whose_user_is_root_or_no_number(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(InputError, match=r"headstart:dev runs as .* never run as root"):
        docker._user(Image("headstart:dev", "sha256:0", user))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_root_gives_steps_what_is_in_the_workspace_and_nothing_else(tmp_path: Path) -> None:
    workspace, elsewhere = tmp_path / "workspace", tmp_path / "elsewhere"
    (workspace / "state" / "deep").mkdir(parents=True)
    (workspace / "state" / "deep" / "file").touch()
    (workspace / "reports").mkdir()
    (workspace / "mlflow.db").touch()
    elsewhere.mkdir()
    (workspace / "state" / "link").symlink_to(elsewhere)
    folders = [workspace / "pipeline", workspace / "state"]
    docker._let_write("10001:7", folders, workspace / "mlflow.db", workspace=workspace)
    given = {str(path.relative_to(workspace)) for path in [workspace, *workspace.rglob("*")]
             if (path.lstat().st_uid, path.lstat().st_gid) == (10001, 7)}  # fmt: skip
    assert given == {".", "mlflow.db", "pipeline", "state", "state/deep", "state/deep/file", "state/link"}
    with pytest.raises(InputError, match=f"cannot write into {elsewhere}.*chown -R 10001:7 {elsewhere}"):
        docker._let_write("10001:7", [elsewhere], None, workspace=workspace)
    assert elsewhere.stat().st_uid == 0


@pytest.mark.parametrize(("name", "seen"), [("list.csv", "."), ("pictures.zip", "pictures.zip"), ("folder", "folder")])
def test_a_step_sees_the_data_and_of_a_table_the_files_beside_it(
    name: str, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only, like everything that is not the step's own."""
    import docker as sdk

    data = tmp_path / "data"
    (data / "folder").mkdir(parents=True)
    (data / "list.csv").touch()
    (data / "pictures.zip").touch()
    client = SimpleNamespace(info=dict, close=lambda: None)
    monkeypatch.setattr(sdk, "from_env", lambda: client)
    monkeypatch.setattr(docker, "connect", lambda: SimpleNamespace(search_experiments=list))
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'record' / 'mlflow.db'}")
    (tmp_path / "record").mkdir()
    recipe = Recipe.of(
        {"name": "pets", "target": {"data": {"uri": str(data / name)}}, "source": {"candidates": ["/m"]}}
    )
    monkeypatch.setenv("HEADSTART_WATCHED", "a-mark")
    options = docker.container(recipe, tmp_path / "workspace" / "pipeline", IMAGE).options
    mounts = options["mounts"]
    readable = [Path(mount["Target"]) for mount in mounts if mount["ReadOnly"]]
    assert readable == [(data / seen).resolve()]
    # By which it is found where the run is killed.
    assert options["labels"] == {"headstart.watched": "a-mark"}


class Ran:
    """A Docker client whose containers write two lines and end with a status."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.created, self.removed = status, [], 0
        self.containers = SimpleNamespace(create=self.create)

    def info(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nothing is open."""

    def create(self, image: str, command: list[str], **options: Any) -> Any:
        self.created.append((image, command, options))
        logs = [b"one\nt", b"wo\n"]
        return SimpleNamespace(
            start=lambda: None,
            logs=lambda stream, follow: iter(logs),
            wait=lambda: {"StatusCode": self.status},
            remove=self.remove,
        )

    def remove(self, force: bool) -> None:
        self.removed += 1


STEP = Step(
    {"image": "headstart:dev", "command": ["sh", "-ec", "start", "source"], "args": ["--executor_input", "{{$}}"]},
    {"inputs": {"parameterValues": {"seed": 1}}}, {"HEADSTART_CODE": "digest"}, 3, Path("/run/step"),
)  # fmt: skip


def test_a_step_is_run_with_its_input_its_environment_and_the_options_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker as sdk

    client, lines, folder = Ran(), list[str](), tmp_path / "run" / "step"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sdk, "from_env", lambda: client)
    monkeypatch.setattr("os.getuid", lambda: 0)
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr("os.lchown", lambda *owner: given.append(owner))
    containers = docker.Containers(tmp_path, {"user": "7:7", "environment": {"MLFLOW_TRACKING_URI": "http://mlflow"}})
    assert containers.run(replace(STEP, folder=folder), lines.append) == 0
    # What root made of the run's folders belongs to the user of the containers, and nothing else.
    assert given == [(folder, 7, 7), (folder.parent, 7, 7)]
    ((image, command, options),) = client.created
    assert (image, lines, client.removed) == ("headstart:dev", ["one", "two"], 1)
    assert command == ["sh", "-ec", "start", "source", "--executor_input", json.dumps(STEP.given)]
    assert options["environment"] == {
        "OMP_NUM_THREADS": "3", "HEADSTART_CODE": "digest", "MLFLOW_TRACKING_URI": "http://mlflow"
    }  # fmt: skip
    assert options["user"] == "7:7"
    assert options["volumes"] == {str(tmp_path): {"bind": str(tmp_path), "mode": "rw"}}


def test_a_killed_container_says_why_that_is_likely_and_after_a_stop_none_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker as sdk

    client, lines = Ran(137), list[str]()
    monkeypatch.setattr(sdk, "from_env", lambda: client)
    containers = docker.Containers(tmp_path, {"user": "7:7"})
    assert containers.run(replace(STEP, folder=tmp_path), lines.append) == 137
    assert lines[-1] == "MemoryError: the step was killed, most likely because memory ran out."
    containers.stop()
    assert containers.run(replace(STEP, folder=tmp_path), lines.append) == 137
    assert lines[3:] == []
    assert client.removed == 2
