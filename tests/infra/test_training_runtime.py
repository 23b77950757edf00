"""The training runtime of the cluster: what the nodes of a TrainJob may do, and that the cluster accepts it."""

import yaml

from headstart.jobs import trainjob
from headstart_components import IMAGE
from tests.infra.manifests import INFRA, validate_custom

PATH = INFRA / "trainjob" / "runtime.yaml"
RUNTIME = yaml.safe_load(PATH.read_text())
(NODE,) = RUNTIME["spec"]["template"]["spec"]["replicatedJobs"]
JOB = NODE["template"]["spec"]
POD = JOB["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_the_published_schema_accepts_it():
    validate_custom(RUNTIME)


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
