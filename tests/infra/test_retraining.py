"""The CronJob of infra/components/retraining: it trains a drifted champion again, with no rights of its own."""

from pathlib import Path

import kubernetes_validate
import pytest

from tests.infra.manifests import NAMESPACES, Document, named, pods, render_with
from tests.infra.network import connects, end
from tests.infra.policies import EVERYWHERE
from tests.infra.test_manifests import KUBERNETES


@pytest.fixture(scope="module")
def documents(overlay: str, infra: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """An overlay with the CronJob."""
    return render_with(infra, tmp_path_factory.mktemp(overlay) / "infra", overlay, "retraining")


def cron_job(documents: list[Document]) -> Document:
    return named(documents, "CronJob", "headstart-retraining")


def test_it_keeps_every_rule_of_safety_and_kubernetes_knows_its_fields(documents):
    for policy in EVERYWHERE:
        assert list(policy(documents)) == [], policy.__name__
    for version in KUBERNETES:
        kubernetes_validate.validate(cron_job(documents), version, strict=True)


def test_it_may_do_nothing_in_the_cluster(documents):
    for document in documents:
        if document["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            assert "headstart-retraining" not in [subject["name"] for subject in document["subjects"]]


def test_it_reads_what_it_refers_to_where_it_runs_and_reaches_the_record(documents, overlay):
    (pod,) = (each for each in pods(documents) if each.name == "headstart-retraining")
    assert pod.namespace == NAMESPACES[overlay]
    (container,) = pod.spec["containers"]
    assert container["image"] == next(
        each.spec["containers"][0]["image"] for each in pods(documents) if each.kind == "ClusterTrainingRuntime"
    )
    assert named(documents, "ConfigMap", "headstart-environment", pod.namespace)
    (record,) = (each for each in pods(documents) if each.kind == "Deployment" and each.name == "headstart-mlflow")
    assert connects(documents, end(pod), end(record), 5000)
