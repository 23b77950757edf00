"""Every overlay renders, and a cluster of each supported version understands all of it."""

import copy
import shutil
import stat
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from headstart.version import __version__
from tests.infra.manifests import INFRA, OVERLAYS, named, pods, render, render_with, validate_custom

KUBERNETES = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
BUILT_IN = {"v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1", "rbac.authorization.k8s.io/v1"}
CLUSTER_WIDE = {
    "Namespace", "ClusterRole", "ClusterRoleBinding", "ClusterQueue", "ResourceFlavor", "ClusterTrainingRuntime",
}  # fmt: skip


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field_of_every_manifest(documents, version):
    for document in documents:
        if document["apiVersion"] in BUILT_IN:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_published_schemas_know_every_field_of_every_custom_resource(documents):
    custom = [document for document in documents if document["apiVersion"] not in BUILT_IN]
    assert custom
    for document in custom:
        validate_custom(document)


def test_an_object_has_a_namespace_unless_it_belongs_to_the_whole_cluster(documents):
    for document in documents:
        namespace = document["metadata"].get("namespace")
        assert (namespace is None) == (document["kind"] in CLUSTER_WIDE), document["metadata"]["name"]
        assert namespace in (None, "headstart", "kubeflow")


@pytest.mark.parametrize(("overlay", "namespace"), [("local", "kubeflow"), ("production", "headstart")])
def test_what_the_profiles_refer_to_is_there_where_the_steps_run(rendered, overlay, namespace):
    documents = rendered[overlay]
    secret = "Secret" if overlay == "local" else "ExternalSecret"
    environment = named(documents, "ConfigMap", "headstart-environment", namespace)["data"]
    assert environment.keys() == {
        "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "HEADSTART_STATE", "MLFLOW_DISABLE_TELEMETRY",
    }  # fmt: skip
    for name, keys in {
        "headstart-s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
        "headstart-mlflow": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    }.items():
        found = named(documents, secret, name, namespace)
        held = found["data"] if secret == "Secret" else {entry["secretKey"] for entry in found["spec"]["data"]}
        assert set(held) == keys
    account = named(documents, "ServiceAccount", "headstart-step", namespace)
    assert account["imagePullSecrets"] == [{"name": "headstart-registry"}]
    queue = named(documents, "LocalQueue", "headstart", namespace)
    assert named(documents, "ClusterQueue", queue["spec"]["clusterQueue"])
    assert named(documents, "ResourceFlavor", "gpu")
    (subject,) = named(documents, "ClusterRoleBinding", "headstart-step")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "headstart-step", "namespace": namespace}


def test_what_a_manifest_refers_to_is_there(documents):
    """Config maps, secrets with their keys, accounts and claims, by name and namespace."""
    there = {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d for d in documents}
    for pod in pods(documents):
        if not pod.namespace:
            continue
        assert ("ServiceAccount", pod.namespace, pod.spec["serviceAccountName"]) in there, pod
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim")
            assert not claim or ("PersistentVolumeClaim", pod.namespace, claim["claimName"]) in there, pod
        for entry in (entry for container in pod.containers for entry in container.get("env", [])):
            source = entry.get("valueFrom", {})
            if reference := source.get("configMapKeyRef"):
                assert reference["key"] in there["ConfigMap", pod.namespace, reference["name"]]["data"], pod
            if reference := source.get("secretKeyRef"):
                held = there.get(("Secret", pod.namespace, reference["name"]))
                fetched = there.get(("ExternalSecret", pod.namespace, reference["name"]))
                keys = held["data"] if held else {entry["secretKey"] for entry in fetched["spec"]["data"]}
                assert reference["key"] in keys, pod


def test_the_queue_admits_whatever_a_step_may_ask_for(documents):
    """Kueue never admits a workload that asks for a resource which no flavor covers."""
    groups = named(documents, "ClusterQueue", "headstart")["spec"]["resourceGroups"]
    (covered,) = (set(group["coveredResources"]) for group in groups)
    (node,) = (pod for pod in pods(documents) if pod.kind == "ClusterTrainingRuntime")
    asked = {name for container in node.containers for name in container["resources"]["requests"]}
    assert asked | {"nvidia.com/gpu"} <= covered
    flavors = {flavor["name"] for group in groups for flavor in group["flavors"]}
    assert flavors == {"cpu", "gpu"}


PROFILES = sorted((INFRA / "profiles").glob("*.yaml"))


def amount(text: str) -> float:
    """Kubernetes' notation of an amount → number."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    unit = next((unit for unit in units if text.endswith(unit)), "")
    return float(text.removesuffix(unit)) * units.get(unit, 1)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_whatever_a_profile_refers_to_an_overlay_has(documents, rendered, path):
    namespace = "kubeflow" if documents is rendered["local"] else "headstart"
    profile = yaml.safe_load(path.read_text())
    for reference in profile["environment"]["config_maps"]:
        assert set(reference["keys"]) <= set(named(documents, "ConfigMap", reference["name"], namespace)["data"])
    kind = "Secret" if namespace == "kubeflow" else "ExternalSecret"
    for reference in profile["environment"]["secrets"]:
        found = named(documents, kind, reference["name"], namespace)
        held = found["data"] if kind == "Secret" else {entry["secretKey"] for entry in found["spec"]["data"]}
        assert set(reference["keys"]) <= set(held)
    account = named(documents, "ServiceAccount", "headstart-step", namespace)
    assert {"name": profile["image_pull_secret"]} in account["imagePullSecrets"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_queue_has_room_for_one_step_of_a_profile_and_for_the_nodes_of_its_training(documents, path):
    profile = yaml.safe_load(path.read_text())
    (group,) = named(documents, "ClusterQueue", "headstart")["spec"]["resourceGroups"]
    flavors = [
        {resource["name"]: amount(resource["nominalQuota"]) for resource in flavor["resources"]}
        for flavor in group["flavors"]
    ]
    for name in ("training", "selection", "light"):
        step = profile.get(name, {})
        if "queue" not in step:
            continue
        assert named(documents, "LocalQueue", step["queue"])
        asked = {"cpu": amount(step["cpu"]["request"]), "memory": amount(step["memory"]["request"])}
        if accelerator := step.get("accelerator"):
            asked[accelerator["type"]] = accelerator["count"]
        if "temporary" in step:
            asked["ephemeral-storage"] = amount(step["temporary"])
        assert any(all(asked[key] <= flavor.get(key, 0) for key in asked) for flavor in flavors), (name, asked)
    if nodes := profile["training"].get("distribution"):
        (container,) = next(pod for pod in pods(documents) if pod.kind == "ClusterTrainingRuntime").containers
        each = {name: amount(text) for name, text in container["resources"]["requests"].items()}
        each["memory"] = amount(nodes["memory"])
        each["nvidia.com/gpu" if nodes.get("device", "gpu") == "gpu" else "cpu"] = nodes["processes"]
        # Kueue admits all nodes of a TrainJob together or none.
        asked = {key: nodes["nodes"] * value for key, value in each.items()}
        assert any(all(asked[key] <= flavor.get(key, 0) for key in asked) for flavor in flavors), asked


def test_one_place_names_the_versions_that_compose_and_every_overlay_use(rendered):
    lines = (INFRA / "versions" / "images.env").read_text().splitlines()
    versions = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert versions["HEADSTART_IMAGE"] == f"headstart:{__version__}"
    assert versions["MLFLOW_IMAGE"] == f"headstart-mlflow:{__version__}"

    services = yaml.safe_load((INFRA / "compose.services.yaml").read_text())["services"]
    assert {service["image"] for service in services.values()} == {
        "${MLFLOW_IMAGE}", "${POSTGRES_IMAGE}", "${SEAWEEDFS_IMAGE}",
    }  # fmt: skip
    (included,) = yaml.safe_load((INFRA / "compose.yaml").read_text())["include"]
    assert (included["path"], included["env_file"]) == ("compose.services.yaml", "versions/images.env")

    def name_and_tag(image: str) -> str:
        return "/".join(image.split("/")[-1:])

    for overlay in OVERLAYS:
        used = {name_and_tag(c["image"]) for pod in pods(rendered[overlay]) for c in pod.containers}
        here = {name_and_tag(image) for image in versions.values()}
        assert used <= here
        assert here - used <= {name_and_tag(versions["SEAWEEDFS_IMAGE"])}


def test_production_can_pin_every_image_by_its_digest(infra, tmp_path):
    """`digest` in the kustomization reaches the pods, those of custom resources too."""
    place = tmp_path / "infra"
    shutil.copytree(infra, place)
    file = place / "overlays" / "production" / "kustomization.yaml"
    settings = yaml.safe_load(file.read_text())
    for image in settings["images"]:
        image["digest"] = "sha256:" + "0" * 64
    file.write_text(yaml.safe_dump(settings))
    images = {c["image"] for pod in pods(render(file.parent)) for c in pod.containers}
    assert images
    assert all(image.endswith("@sha256:" + "0" * 64) for image in images), images


def test_the_volume_for_data_is_made_where_the_steps_run(infra, tmp_path):
    documents = render_with(infra, tmp_path / "infra", "local", "data")
    claim = named(documents, "PersistentVolumeClaim", "headstart-data")
    assert claim["metadata"]["namespace"] == "kubeflow"
    kubernetes_validate.validate(claim, KUBERNETES[0], strict=True)


def test_the_local_passwords_are_random_kept_and_for_their_owner_only(infra):
    folder = infra / "overlays" / "local" / "secrets"
    files = {file: file.read_text() for file in folder.glob("*.env")}
    assert {file.name for file in files} == {"record.env", "s3.env", "mlflow.env", "reader.env"}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    values = [
        line.partition("=")[2] for text in files.values() for line in text.splitlines() if not line.startswith("#")
    ]
    passwords = [value for value in values if not value.startswith("headstart")]
    assert len(set(passwords)) == len(passwords) == 7
    assert min(map(len, passwords)) >= 32

    subprocess.run([infra / "overlays" / "local" / "secrets.sh"], check=True)
    assert {file: file.read_text() for file in files} == files


def test_git_ignores_the_local_passwords():
    folder = Path("infra", "overlays", "local", "secrets")
    for name, ignored in {"record.env": 0, "record.env.part": 0, "record.env.example": 1}.items():
        done = subprocess.run(["git", "check-ignore", "-q", folder / name], cwd=INFRA.parent, check=False)  # noqa: S607
        assert done.returncode == ignored, name


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Deployment", lambda spec: spec["template"]["spec"].update(securityContxt={})),
        ("CronJob", lambda spec: spec.update(timezone="Etc/UTC")),
        ("NetworkPolicy", lambda spec: spec.update(policyTypes="Egress")),
    ],
)
def test_a_field_that_kubernetes_does_not_know_is_found(rendered, kind, change):
    document = copy.deepcopy(next(document for document in rendered["local"] if document["kind"] == kind))
    change(document["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES[0], strict=True)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ClusterQueue", lambda spec: spec["resourceGroups"][0].update(flavours=[])),
        ("InferenceService", lambda spec: spec["predictor"].update(minReplica=1)),
        ("ExternalSecret", lambda spec: spec.update(refreshInterval=3600)),
        ("ServiceMonitor", lambda spec: spec.pop("endpoints")),
    ],
)
def test_a_field_that_a_custom_resource_does_not_have_is_found(rendered, kind, change):
    document = copy.deepcopy(next(document for document in rendered["production"] if document["kind"] == kind))
    change(document["spec"])
    with pytest.raises(jsonschema.ValidationError):
        validate_custom(document)
