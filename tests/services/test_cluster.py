"""The pods of infra/overlays/local do their work under the settings that their manifests give them.

The image of the MLflow server is the real one. PostgreSQL and SeaweedFS run in a stand-in for their official images.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.infra.manifests import lay_out, render
from tests.services.builds import MLFLOW, STORES, build_images
from tests.services.cluster import Cluster, Running, docker

pytestmark = pytest.mark.services


MODEL = "cluster-target"

# The local overlay, with what Prometheus reads and the champion.
OVERLAY = f"""
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../local]
components: [../../components/monitoring, ../../components/champion]
generatorOptions: {{disableNameSuffixHash: true}}
configMapGenerator:
  - {{name: headstart-champion, namespace: headstart, literals: ["MODEL_URI=models:/{MODEL}@champion"]}}
"""


@dataclass(frozen=True)
class Record:
    """The record's pods, up and ready."""

    cluster: Cluster
    mlflow: Running
    postgres: Running
    objects: Running
    first: tuple[str, ...]
    """What the init containers of two pods printed that were the first, and started together."""

    @property
    def uri(self) -> str:
        return f"http://{self.mlflow.here(5000)}"

    @property
    def steps(self) -> tuple[str, str]:
        """User and password of the steps."""
        held = self.cluster.secret("headstart-mlflow")
        return held["MLFLOW_TRACKING_USERNAME"], held["MLFLOW_TRACKING_PASSWORD"]

    @property
    def administrator(self) -> tuple[str, str]:
        return "admin", self.cluster.secret("headstart-record")["MLFLOW_ADMIN_PASSWORD"]


@pytest.fixture(scope="module")
def record_pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    build_images()
    infra = lay_out(tmp_path_factory.mktemp("cluster") / "infra")
    overlay = infra / "overlays" / "whole"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(OVERLAY)
    images = {"postgres": STORES, "seaweedfs": STORES, "headstart-mlflow": MLFLOW}
    with Cluster(render(overlay), images) as cluster:
        postgres, objects = cluster.start("headstart-postgres"), cluster.start("headstart-objects")
        cluster.finish("headstart-buckets")
        # As the two replicas of production do: on an empty database, at the same moment.
        with ThreadPoolExecutor(2) as pool:
            first = tuple(pool.map(lambda _: cluster.finish_init("headstart-mlflow"), range(2)))
        yield Record(cluster, cluster.start("headstart-mlflow"), postgres, objects, first)


@pytest.fixture
def login(record_pods: Record, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a step, which reaches no store directly here."""
    made = {"MLFLOW_TRACKING_URI": record_pods.uri, **record_pods.cluster.secret("headstart-mlflow", "kubeflow")}
    made |= {f"MLFLOW_ENABLE_PROXY_MULTIPART_{direction}": "false" for direction in ("UPLOAD", "DOWNLOAD")}
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def client(login: dict[str, str]) -> MlflowClient:
    return MlflowClient(login["MLFLOW_TRACKING_URI"])


def get(url: str, user: str = "", password: str = "", **headers: str) -> tuple[int, str]:
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_pods_that_start_together_prepare_the_record_once(record_pods):
    assert all("the record is ready" in printed for printed in record_pods.first)
    for user in ("admin", "headstart", "headstart-reader"):
        assert sum(f"made the user {user}\n" in printed for printed in record_pods.first) == 1


def test_every_server_passes_its_probes(record_pods):
    for server in (record_pods.mlflow, record_pods.postgres, record_pods.objects):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert server.passes(probe), server.container["name"]


def test_the_server_answers_to_its_names_in_the_cluster_and_to_no_other(record_pods):
    where = f"{record_pods.uri}/api/2.0/mlflow/experiments/get?experiment_id=0"
    for host in ("headstart-mlflow", "headstart-mlflow:5000", "headstart-mlflow.headstart:5000", "mlflow.localhost"):
        assert get(where, *record_pods.steps, Host=host)[0] == 200, host
    assert get(where, *record_pods.steps, Host="evil.example.org")[0] == 403
    assert get(where)[0] == 401
    assert get(where, "headstart", "wrong-password")[0] == 401


def test_a_step_writes_with_a_login_that_is_no_administrators_and_the_champions_server_only_reads(
    record_pods, client, tmp_path, monkeypatch
):
    run = client.create_run(client.create_experiment("steps")).info.run_id
    client.log_metric(run, "val/accuracy", 0.5)
    (tmp_path / "note.txt").write_text("kept")
    client.log_artifact(run, str(tmp_path / "note.txt"))
    client.create_registered_model("steps-target")
    client.create_model_version("steps-target", f"runs:/{run}/note.txt", run)
    client.set_registered_model_alias("steps-target", "champion", "1")
    assert Path(client.download_artifacts(run, "note.txt", str(tmp_path / "back"))).read_text() == "kept"
    users = f"{record_pods.uri}/api/2.0/mlflow/users"
    assert get(f"{users}/get?username=admin", *record_pods.steps)[0] == 403
    assert get(f"{users}/get?username=admin", *record_pods.administrator)[0] == 200
    reader = record_pods.cluster.secret("headstart-reader")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", reader["MLFLOW_TRACKING_USERNAME"])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", reader["MLFLOW_TRACKING_PASSWORD"])
    assert client.get_model_version_by_alias("steps-target", "champion").version == "1"
    with pytest.raises(MlflowException, match="Permission denied"):
        client.delete_registered_model_alias("steps-target", "champion")


def test_a_step_may_send_a_large_file_to_the_store_in_parts_past_the_server(record_pods):
    """From a container in the cluster's network: the addresses that the server signs lead to the store by its name."""
    script = """
import os, pathlib, mlflow
path = pathlib.Path("/tmp/large.bin")
path.write_bytes(os.urandom(12 * 2**20))
mlflow.set_experiment("parts")
with mlflow.start_run() as run:
    mlflow.log_artifact(str(path))
print(run.info.run_id)
"""
    steps = record_pods.cluster.secret("headstart-mlflow", "kubeflow")
    environment = {
        "MLFLOW_TRACKING_URI": "http://headstart-mlflow.headstart:5000", **steps,
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true", "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(2**20),
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * 2**20),
    }  # fmt: skip
    variables = [f"--env={name}={value}" for name, value in environment.items()]
    network = ["--network", record_pods.cluster.name, "--read-only", "--tmpfs", "/tmp"]  # noqa: S108 (the container's)
    done = docker("run", "--rm", *network, *variables, "--entrypoint", "python3", MLFLOW, "-c", script)
    run = done.splitlines()[-1]
    assert "/mlflow-artifacts/mpu/complete/" in record_pods.mlflow.log()
    listing = """
import boto3, sys
found = boto3.client("s3").list_objects_v2(Bucket="headstart-record")
print([item["Size"] for item in found["Contents"] if sys.argv[1] in item["Key"]])
"""
    assert record_pods.mlflow.execute("python3", "-c", listing, run) == str([12 * 2**20])


def test_prometheus_reads_requests_by_their_status_without_a_login(record_pods, client):
    client.search_experiments()
    assert get(f"{record_pods.uri}/metrics", *record_pods.steps)[0] == 403, "why there is a container for it"
    status, text = get(f"http://{record_pods.mlflow.address}:9464/metrics")
    assert status == 200
    assert re.search(r'mlflow_http_request_total\{.*status="200".*\} [1-9]', text)


def test_a_pod_that_starts_again_keeps_what_is_there_and_takes_over_a_new_password(record_pods, client):
    """The init container once more, on databases that are in use."""
    experiment = client.create_experiment("again")
    cluster = record_pods.cluster
    (prepare,) = cluster.pod("headstart-mlflow").spec["initContainers"]
    user, old = record_pods.steps

    def start_again(password: str) -> str:
        entries = [entry for entry in prepare["env"] if entry["name"] != "MLFLOW_TRACKING_PASSWORD"]
        changed = [*entries, {"name": "MLFLOW_TRACKING_PASSWORD", "value": password}]
        return cluster.finish_init("headstart-mlflow", env=changed)

    where = f"{record_pods.uri}/api/2.0/mlflow/experiments/get?experiment_id={experiment}"
    new = "a-new-password-of-its-own"
    printed = start_again(new)
    try:
        assert f"changed the password of {user}" in printed
        assert "made the user" not in printed
        assert get(where, user, new)[0] == 200
    finally:
        start_again(old)
    assert get(where, user, old)[0] == 200


def test_the_nightly_dump_is_whole_and_makes_the_database_anew(record_pods, client):
    client.create_experiment("dumped")
    printed = record_pods.cluster.finish("headstart-backup")
    record_dump = re.search(r"\S+-record\.dump", printed)[0]
    assert re.search(r"\S+-users\.dump", printed)
    assert ".part" not in printed

    volume = f"{record_pods.cluster.name}-headstart-backup:/backup:ro"
    password = record_pods.cluster.secret("headstart-record")["POSTGRES_PASSWORD"]
    script = f"""
        createdb -h headstart-postgres -U headstart restored
        pg_restore -h headstart-postgres -U headstart --exit-on-error --no-owner -d restored /backup/{record_dump}
        psql -h headstart-postgres -U headstart -d restored -Atc "select name from experiments"
    """  # noqa: S608 (a file name of our own)
    names = docker(
        "run", "--rm", "--network", record_pods.cluster.name, "--volume", volume, "--user", "999:999",
        "--env", f"PGPASSWORD={password}", "--entrypoint", "sh", STORES, "-euc", script,
    )  # fmt: skip
    assert "dumped" in names.splitlines()


def test_old_dumps_go_and_young_ones_stay(record_pods):
    cluster = record_pods.cluster
    volume = f"{cluster.name}-headstart-backup:/backup"
    touch = "touch -d '20 days ago' /backup/old-record.dump; touch -d '2 days ago' /backup/young-record.dump"
    cluster.finish("headstart-backup")
    docker("run", "--rm", "--volume", volume, "--user", "999:999", "--entrypoint", "sh", STORES, "-c", touch)
    printed = cluster.finish("headstart-backup")
    assert "young-record.dump" in printed
    assert "old-record.dump" not in printed


def test_garbage_is_what_was_deleted_long_enough_ago_with_its_files(record_pods, client, tmp_path):
    cluster = record_pods.cluster
    experiment = client.create_experiment("garbage")
    (tmp_path / "weights.bin").write_bytes(b"weights" * 1000)
    kept, deleted = (client.create_run(experiment).info.run_id for _ in range(2))
    for run in (kept, deleted):
        client.log_artifact(run, str(tmp_path / "weights.bin"))
    client.delete_run(deleted)

    cluster.finish("headstart-garbage")
    assert client.get_run(deleted).info.lifecycle_stage == "deleted", "deleted less than 30 days ago"

    (container,) = cluster.pod("headstart-garbage").spec["containers"]
    at_once = ["--older-than=0s" if word.startswith("--older-than") else word for word in container["args"]]
    assert at_once != container["args"]
    cluster.finish("headstart-garbage", args=at_once)
    where = f"{record_pods.uri}/api/2.0/mlflow/runs/get?run_id={deleted}"
    assert get(where, *record_pods.administrator)[0] == 404
    assert [file.path for file in client.list_artifacts(kept)] == ["weights.bin"]
    listing = """
import boto3, json
found = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="headstart-record")
print(json.dumps([item["Key"] for page in found for item in page.get("Contents", [])]))
"""
    keys = json.loads(record_pods.mlflow.execute("python3", "-c", listing))
    assert any(kept in key for key in keys)
    assert not any(deleted in key for key in keys)


def test_no_password_is_in_a_log(record_pods):
    secrets = {
        value
        for name in ("headstart-record", "headstart-record-s3", "headstart-mlflow", "headstart-reader")
        for key, value in record_pods.cluster.secret(name).items()
        if key not in ("MLFLOW_TRACKING_USERNAME", "AWS_ACCESS_KEY_ID")
    }
    for server in (record_pods.mlflow, record_pods.postgres, record_pods.objects):
        log = server.log()
        assert log
        assert not any(secret in log for secret in secrets)


def test_the_champion_answers_from_its_pod(record_pods, client, image, tmp_path):
    """KServe's pod: `headstart serve` in the project's image, without a key of the object store."""
    import mlflow
    import torch

    from headstart.modalities.image.preprocessing import Preprocessing
    from headstart.models.architectures.convnet import convnet
    from headstart.models.bundle import ModelBundle
    from headstart.tracking.registration import register
    from headstart.tracking.runs import experiment_named, new_parent

    torch.manual_seed(0)
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    provenance = {"role": "target", "strategy": "full", "data_digest": "sha256:1", "head": "trained"}
    network = convnet(classes=3, channels=1).eval()
    bundle = ModelBundle(network, "convnet", "image", preprocessing, ("cat", "dog", "owl"), provenance=provenance)
    bundle.save(tmp_path / "bundle")
    mlflow.set_tracking_uri(record_pods.uri)
    run = new_parent(client, experiment_named(client, "champion"), name="champion", pipeline_run="champion-0")
    registered = register(run, tmp_path / "bundle", model=MODEL)
    client.set_registered_model_alias(MODEL, "champion", registered.version)

    record_pods.cluster.images["headstart"] = image
    champion = record_pods.cluster.start("headstart-champion")
    assert champion.passes("readinessProbe")
    assert champion.passes("livenessProbe")
    request = urllib.request.Request(
        f"http://{champion.address}:8080/invocations",
        json.dumps({"inputs": [[[[0]] * 16] * 16] * 2}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        predictions = json.load(response)["predictions"]
    assert [row["label"] in bundle.classes for row in predictions] == [True, True]
    with urllib.request.urlopen(f"http://{champion.address}:8080/metrics", timeout=60) as response:
        assert 'status="200"} 1.0' in response.read().decode()
    log = champion.log()
    assert f"serving models:/{MODEL}@champion" in log
    # The image has ONNX Runtime; without it PyTorch answers, later.
    assert "Traceback" not in log
    assert "PyTorch" not in log
