"""The volume of infra/components/state: steps can write it, though Pipelines gives their pods no fsGroup."""

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.infra.manifests import INFRA, NAMESPACES, Document, named, pods, render_with
from tests.infra.policies import EVERYWHERE
from tests.infra.test_manifests import KUBERNETES, PROFILES


@pytest.fixture(scope="module")
def documents(overlay: str, infra: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """An overlay with the volume."""
    return render_with(infra, tmp_path_factory.mktemp(overlay) / "infra", overlay, "state")


def job(documents: list[Document]) -> Document:
    return named(documents, "Job", "headstart-state")


def test_the_volume_belongs_to_the_group_that_steps_and_nodes_run_in(documents, overlay):
    """Mounting it for a pod with an fsGroup gives it to that group."""
    spec = job(documents)["spec"]["template"]["spec"]
    (node,) = (pod for pod in pods(documents) if pod.kind == "ClusterTrainingRuntime")
    group = spec["securityContext"]["fsGroup"]
    assert group == node.spec["securityContext"]["runAsGroup"]
    assert {group} == {yaml.safe_load(path.read_text())["run_as"]["group"] for path in PROFILES}
    (volume,) = spec["volumes"]
    claim = named(documents, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    assert claim["metadata"]["namespace"] == job(documents)["metadata"]["namespace"] == NAMESPACES[overlay]


def test_the_job_keeps_every_rule_of_safety_and_kubernetes_knows_its_fields(documents):
    for policy in EVERYWHERE:
        assert list(policy(documents)) == [], policy.__name__
    for document in documents:
        if document["metadata"]["name"] == "headstart-state":
            kubernetes_validate.validate(document, KUBERNETES[0], strict=True)


def tried(folder: Path) -> "subprocess.CompletedProcess[str]":
    """The job's own program, on a folder."""
    manifests = yaml.safe_load_all((INFRA / "components" / "state" / "writable.yaml").read_text())
    (container,) = named(list(manifests), "Job", "headstart-state")["spec"]["template"]["spec"]["containers"]
    program = container["command"][2]
    return subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)


def test_a_volume_that_nobody_of_the_group_can_write_ends_with_the_remedy(tmp_path):
    writable, absent = tried(tmp_path), tried(tmp_path / "absent")
    assert (writable.returncode, list(tmp_path.iterdir())) == (0, [])
    assert absent.returncode == 1
    assert "cannot write" in absent.stderr
    assert "chgrp 10001, chmod g+rwxs" in absent.stderr
    assert "Traceback" not in absent.stderr
