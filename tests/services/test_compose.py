"""infra/compose.yaml: the record's servers for a team, brought up as its head says.

The image of the MLflow server is the real one. PostgreSQL and SeaweedFS run in a stand-in for their official images.
"""

import json
import os
import re
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.services.builds import MLFLOW, ROOT, STORES, build_images
from tests.services.servers import fail, free_ports, tail

pytestmark = pytest.mark.services

COMPOSE = ROOT / "infra" / "compose.yaml"
REQUIRED = ["MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY", "POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"]


def commands(first: str) -> str:
    """The commands that the file's head shows below the line that begins with `first`, up to the next empty line."""
    head = COMPOSE.read_text().split("\nname:")[0]
    found = re.search(rf"^# {first}.*\n#\n((?:#   .*\n)+)", head, re.MULTILINE)
    assert found, first
    return re.sub("^#   ", "", found[1], flags=re.MULTILINE)


def sh(script: str, folder: Path, **variables: str) -> str:
    environment = os.environ | {"COMPOSE_PROGRESS": "quiet"} | variables
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        fail(f"{script}\nended with {done.returncode}:\n{tail(done.stdout + done.stderr)}")
    return done.stdout


def compose(arguments: str, folder: Path, **variables: str) -> str:
    return sh(f"docker compose -f {COMPOSE} {arguments}", folder, **variables)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with infra/.env as the first of the documented commands writes it."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "infra").mkdir()
    sh(commands("Start").partition("\ndocker")[0], folder)
    return folder


@pytest.fixture(scope="module")
def settings(place: Path) -> dict[str, Any]:
    """The file as Docker Compose understands it."""
    return json.loads(compose("--env-file infra/.env config --format json", place))


def test_every_password_is_random_and_for_its_owner_only(place: Path) -> None:
    file = place / "infra" / ".env"
    passwords = dict(line.split("=") for line in file.read_text().splitlines())
    assert sorted(passwords) == sorted(REQUIRED)
    assert len(set(passwords.values())) == len(REQUIRED)
    assert min(map(len, passwords.values())) >= 32
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("missing", REQUIRED)
def test_there_is_no_default_password(place: Path, missing: str) -> None:
    lines = (place / "infra" / ".env").read_text().splitlines(keepends=True)
    (place / "some.env").write_text("".join(line for line in lines if not line.startswith(f"{missing}=")))
    done = subprocess.run(
        ["docker", "compose", "-f", COMPOSE, "--env-file", "some.env", "config"],  # noqa: S607
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"{missing} is missing a value: see the head of infra/compose.yaml" in done.stderr


def test_only_the_mlflow_server_can_be_reached_and_by_this_machine_alone(settings: dict[str, Any]) -> None:
    services = settings["services"]
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert list(published) == ["mlflow"]
    assert [port["host_ip"] for port in published["mlflow"]] == ["127.0.0.1"]
    assert settings["networks"]["stores"]["internal"]
    assert settings["networks"]["steps"]["internal"]
    assert {name: sorted(service["networks"]) for name, service in services.items() if name != "mlflow"} == {
        "bucket": ["stores"],
        "postgres": ["stores"],
        "seaweedfs": ["steps", "stores"],
    }


def test_stores_keep_their_data_in_named_volumes_and_stand_on_images_of_a_fixed_version(
    settings: dict[str, Any],
) -> None:
    for name in ("postgres", "seaweedfs"):
        service = settings["services"][name]
        assert re.search(r":\d+\.\d+$", service["image"]), service["image"]
        (volume,) = service["volumes"]
        assert volume["type"] == "volume"
        assert volume["source"] in settings["volumes"]


def test_a_service_waits_until_those_that_it_needs_work(settings: dict[str, Any]) -> None:
    services = settings["services"]
    assert all("healthcheck" in services[name] for name in ("mlflow", "postgres", "seaweedfs"))
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert {other: wait["condition"] for other, wait in waits["mlflow"].items()} == {
        "postgres": "service_healthy",
        "bucket": "service_completed_successfully",
    }
    assert waits["bucket"]["seaweedfs"]["condition"] == "service_healthy"


@dataclass(frozen=True)
class Team:
    """The running services."""

    place: Path
    variables: dict[str, str]
    uri: str
    password: str

    def compose(self, arguments: str) -> str:
        return compose(arguments, self.place, **self.variables)

    def up(self) -> None:
        try:
            self.compose("up --detach --wait --wait-timeout 240")
        except pytest.fail.Exception as failed:
            fail(f"{failed}\n{self.compose('ps --all; true')}\n{self.compose('logs --no-color --tail 20')}")


@pytest.fixture(scope="module")
def team(place: Path) -> Iterator[Team]:
    """The services, up and healthy; gone with their volumes afterwards."""
    build_images()
    (port,) = free_ports(1)
    variables = {
        "COMPOSE_PROJECT_NAME": f"headstart-test-{os.getpid()}",
        "COMPOSE_ENV_FILES": str(place / "infra" / ".env"),
        "MLFLOW_IMAGE": MLFLOW, "POSTGRES_IMAGE": STORES, "SEAWEEDFS_IMAGE": STORES,
        "MLFLOW_PORT": str(port),
    }  # fmt: skip
    passwords = dict(line.split("=") for line in (place / "infra" / ".env").read_text().splitlines())
    running = Team(place, variables, f"http://127.0.0.1:{port}", passwords["MLFLOW_ADMIN_PASSWORD"])
    try:
        running.up()
        yield running
    finally:
        running.compose("down --volumes --timeout 5")


@pytest.fixture
def client(team: Team, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """What the head says that a person sets, and no S3 keys."""
    for variable, value in (("URI", team.uri), ("USERNAME", "admin"), ("PASSWORD", team.password)):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{variable}", value)
    # As headstart does: the S3 store cannot be reached from outside.
    for direction in ("DOWNLOAD", "UPLOAD"):
        monkeypatch.setenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{direction}", "false")
    return MlflowClient(team.uri)


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, 401), ({"Authorization": "Basic YWRtaW46cGFzc3dvcmQ="}, 401), ({"Host": "evil.example.org"}, 403)],
    ids=["no password", "wrong password", "foreign host name"],
)
def test_a_stranger_is_refused(team: Team, headers: dict[str, str], code: int) -> None:
    request = urllib.request.Request(f"{team.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", headers=headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310
    assert refused.value.code == code


def test_the_server_has_no_rights_that_it_does_not_need(team: Team) -> None:
    found = json.loads(sh(f"docker inspect $(docker compose -f {COMPOSE} ps -q mlflow)", team.place, **team.variables))
    host = found[0]["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert team.compose("exec -T mlflow id -u").strip() == "10001"


def test_of_the_object_store_only_signed_s3_can_be_reached_from_outside_its_container(team: Team) -> None:
    script = """
import socket, urllib.error, urllib.request
for port in (9333, 8080, 8888, 19333, 18080, 18888):
    assert socket.socket().connect_ex(("seaweedfs", port)), port
try:
    urllib.request.urlopen("http://seaweedfs:8333/record")
except urllib.error.HTTPError as refused:
    print(refused.code)
"""
    assert team.compose(f"exec -T mlflow python3 -c '{script}'").strip() == "403"


def test_what_a_client_logs_and_registers_outlives_a_backup_and_new_containers(
    team: Team, client: MlflowClient, tmp_path: Path
) -> None:
    run = client.create_run(client.create_experiment("team")).info.run_id
    client.log_param(run, "colour", "a-green-of-its-own")
    (tmp_path / "note.txt").write_text("kept")
    client.log_artifact(run, str(tmp_path / "note.txt"))
    client.create_registered_model("team-target")
    client.create_model_version("team-target", f"runs:/{run}/note.txt", run)

    *backup, up_again = commands("Back up").replace("infra/compose.yaml", str(COMPOSE)).splitlines()
    sh("\n".join(backup), team.place, **team.variables)
    assert "a-green-of-its-own" in (team.place / "database.sql").read_text()
    with tarfile.open(team.place / "objects.tar") as objects:
        stored = [objects.extractfile(file) for file in objects if file.name.endswith(".dat")]
        assert any(file and b"kept" in file.read() for file in stored)

    team.compose("down")
    sh(up_again, team.place, **team.variables)
    assert client.get_run(run).data.params == {"colour": "a-green-of-its-own"}
    assert client.get_model_version("team-target", "1").run_id == run
    assert Path(client.download_artifacts(run, "note.txt")).read_text() == "kept"
