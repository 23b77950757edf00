"""What infra/ changes of Kubeflow Pipelines and its Argo, on top of the manifests that Pipelines 2.17.0 has."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.infra.manifests import INFRA, Document, named, render

STOCK = Path(__file__).parent / "kubeflow" / "argo"


@pytest.fixture(scope="module")
def stock() -> list[Document]:
    """Argo as Pipelines sets it up."""
    return render(STOCK)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """The same with infra/components/argo."""
    folder = tmp_path_factory.mktemp("argo")
    shutil.copytree(STOCK, folder / "stock")
    shutil.copytree(INFRA / "components" / "argo", folder / "component")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["stock"], "components": ["component"]}))
    return render(folder)


def workflow_defaults(documents: list[Document]) -> Document:
    return yaml.safe_load(named(documents, "ConfigMap", "workflow-controller-configmap")["data"]["workflowDefaults"])


def test_argo_retries_what_failed_and_what_was_lost_as_often_as_a_step_says_and_no_graph(stock, ours):
    """As it was seen to on 2.17.0: any other limit than 0 would run every graph around a failing step again."""
    assert workflow_defaults(stock)["spec"]["templateDefaults"]["retryStrategy"] == {
        "limit": "2", "retryPolicy": "OnError"
    }  # fmt: skip
    assert workflow_defaults(ours)["spec"]["templateDefaults"]["retryStrategy"] == {
        "limit": "0", "retryPolicy": "Always"
    }  # fmt: skip


def test_argo_looks_at_a_workflow_again_after_a_second(ours):
    (container,) = named(ours, "Deployment", "workflow-controller")["spec"]["template"]["spec"]["containers"]
    assert {"name": "DEFAULT_REQUEUE_TIME", "value": "1s"} in container["env"]


def test_everything_else_of_argo_is_as_pipelines_has_it(stock, ours):
    was, now = copy.deepcopy(stock), copy.deepcopy(ours)
    for documents in (was, now):
        settings = named(documents, "ConfigMap", "workflow-controller-configmap")["data"]
        defaults = yaml.safe_load(settings["workflowDefaults"])
        del defaults["spec"]["templateDefaults"]["retryStrategy"]
        settings["workflowDefaults"] = defaults
        (container,) = named(documents, "Deployment", "workflow-controller")["spec"]["template"]["spec"]["containers"]
        container["env"] = [entry for entry in container["env"] if entry["name"] != "DEFAULT_REQUEUE_TIME"]
    assert now == was


def test_one_version_of_pipelines_is_installed_patched_and_documented():
    readme = (INFRA / "README.md").read_text()
    (documented,) = re.findall(r"^\| Kubeflow Pipelines \| ([\d.]+) \|", readme, re.MULTILINE)
    for name in ("local", "production"):
        settings = yaml.safe_load((INFRA / "kubeflow" / name / "kustomization.yaml").read_text())
        (theirs,) = settings["resources"]
        assert theirs.endswith(f"?ref={documented}")
        assert settings["components"] == ["../../components/argo"]
        assert f"-k infra/kubeflow/{name}" in readme
    assert set(re.findall(r"kubeflow/pipelines.*\?ref=([\d.]+)", readme)) == {documented}
