"""The training runtime of the cluster: what the nodes of a TrainJob may do, and that the cluster accepts it."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from components import IMAGE
from headstart.training import trainjob

PATH = Path(__file__).parents[2] / "infra" / "trainjob" / "runtime.yaml"
RUNTIME = yaml.safe_load(PATH.read_text())
(NODE,) = RUNTIME["spec"]["template"]["spec"]["replicatedJobs"]
JOB = NODE["template"]["spec"]
POD = JOB["template"]["spec"]
(CONTAINER,) = POD["containers"]


def strict(schema: Any) -> Any:
    """The schema with every field refused that it does not name: the API server would drop it without a word."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return made


def test_the_published_schema_accepts_it():
    folder = os.environ.get("CRD_SCHEMAS")
    if not folder:
        pytest.skip("CRD_SCHEMAS names no folder with the published schemas of trainer.kubeflow.org")
    definition = yaml.safe_load((Path(folder) / "trainer.kubeflow.org_clustertrainingruntimes.yaml").read_text())
    group, _, name = RUNTIME["apiVersion"].partition("/")
    assert (definition["spec"]["group"], definition["spec"]["names"]["kind"]) == (group, RUNTIME["kind"])
    (version,) = (version for version in definition["spec"]["versions"] if version["name"] == name)
    schema = strict(version["schema"]["openAPIV3Schema"])
    # What every object has is not in the schema of one kind.
    schema["properties"]["metadata"] = {"type": "object"}

    jsonschema.Draft202012Validator(schema).validate(RUNTIME)


def test_a_step_finds_it_by_its_name_and_the_sdk_reads_it(monkeypatch):
    from kubeflow.trainer.backends.container.runtime_loader import get_training_runtime_from_sources

    monkeypatch.setenv(trainjob.RUNTIME_VARIABLE, str(PATH))
    name, path = trainjob._runtime("docker")
    found = get_training_runtime_from_sources(name, [f"file://{path}"])

    monkeypatch.delenv(trainjob.RUNTIME_VARIABLE)
    assert trainjob._runtime("kubernetes") == (found.name, None)
    assert (found.trainer.framework, found.trainer.image) == ("torch", IMAGE)


def test_nodes_are_nobody_and_can_become_nobody_else():
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] > 0
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


def test_nodes_write_to_memory_and_temporary_files_alone_and_both_are_limited():
    kinds = {volume["name"]: volume["emptyDir"] for volume in POD["volumes"]}
    assert {mount["mountPath"]: kinds[mount["name"]].get("medium") for mount in CONTAINER["volumeMounts"]} == {
        "/tmp": None,  # noqa: S108 (the node's)
        "/dev/shm": "Memory",  # noqa: S108
    }
    assert all(kind["sizeLimit"] for kind in kinds.values())
    # The SDK writes the training's script into the folder that the node starts in.
    assert CONTAINER["workingDir"] == "/tmp"  # noqa: S108


def test_nodes_say_what_they_need():
    resources = CONTAINER["resources"]
    assert resources["requests"].keys() >= {"cpu", "memory"}
    assert resources["limits"]["memory"] == resources["requests"]["memory"]


def test_a_failed_node_ends_the_job():
    """The step is what is retried, and it starts all nodes again."""
    assert RUNTIME["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] == 0
    assert JOB["backoffLimit"] == 0
    assert POD["restartPolicy"] == "Never"
