"""What a TrainJob asks of a cluster, as the kubeflow SDK builds it from our runtime. tests/services runs TrainJobs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from headstart.errors import HeadstartError, InputError
from headstart.jobs import trainjob
from headstart.jobs.launch import Listener

RUNTIME = Path(__file__).parents[2] / "infra" / "trainjob" / "runtime.yaml"


class Cluster:
    """A cluster's API for custom objects and pods, with the runtime that infra/ applies and the TrainJobs created."""

    def __init__(self) -> None:
        self.runtime = yaml.safe_load(RUNTIME.read_text())
        self.jobs: dict[str, dict] = {}

    def get_namespaced_custom_object(self, group, version, namespace, plural, name, async_req):
        def get(timeout):
            from kubernetes.client import ApiException

            if plural == "trainjobs" and name in self.jobs:
                made = {"namespace": namespace, "creationTimestamp": "2026-03-01T03:00:00Z"}
                return {**self.jobs[name], "metadata": {**self.jobs[name]["metadata"], **made}}
            raise ApiException(status=404)

        return SimpleNamespace(get=get)

    def get_cluster_custom_object(self, group, version, plural, name, async_req):
        assert (plural, name) == ("clustertrainingruntimes", self.runtime["metadata"]["name"])
        return SimpleNamespace(get=lambda timeout: self.runtime)

    def create_namespaced_custom_object(self, group, version, namespace, plural, body):
        self.jobs[body["metadata"]["name"]] = body

    def list_namespaced_pod(self, namespace, label_selector, async_req):
        from kubernetes.client import V1PodList

        return SimpleNamespace(get=lambda timeout: V1PodList(items=[]))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that the step's SDK speaks to."""
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend

    made = Cluster()
    backend = object.__new__(KubernetesBackend)
    backend.custom_api = backend.core_api = made
    backend.namespace = "headstart"
    client = object.__new__(TrainerClient)
    client.backend = backend
    monkeypatch.setattr(trainjob, "_client", lambda backend, runtime: client)
    return made


@pytest.fixture
def jobs(cluster: Cluster, tmp_path: Path) -> trainjob._Jobs:
    """The TrainJobs of the cluster."""
    return trainjob._Jobs(str(tmp_path))


@pytest.fixture
def created(cluster, jobs, tmp_path):
    """Creates a TrainJob of two nodes and returns it as the cluster got it."""

    def create():
        jobs.create("headstart-1", 2, SimpleNamespace(location=str(tmp_path), folder="jobs/1"))
        return cluster.jobs["headstart-1"]

    return create


def node(job):
    """What a TrainJob says of each node."""
    return job["spec"]["trainer"]


def variables(job):
    return {entry["name"]: entry["value"] for entry in node(job)["env"]}


def test_the_sdk_accepts_our_runtime_and_builds_the_train_job_from_it(created, cluster):
    job = created()

    assert job["spec"]["runtimeRef"] == {
        "kind": "ClusterTrainingRuntime", "name": cluster.runtime["metadata"]["name"]
    }  # fmt: skip
    assert node(job)["numNodes"] == 2
    assert "torchrun" in node(job)["command"][-1]
    assert "from headstart.jobs.worker import work" in node(job)["command"][-1]


def test_a_runtime_that_the_sdk_refuses_is_a_sentence_of_the_step(created, cluster):
    (replicated,) = cluster.runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    del container["resources"]["limits"]["cpu"]

    with pytest.raises(
        HeadstartError, match=r"^The step cannot create the TrainJob headstart-1: .*headstart.*Unknown dev"
    ):
        created()


def test_a_node_has_a_gpu_for_each_process(created, monkeypatch):
    monkeypatch.setenv("HEADSTART_PROCESSES", "8")
    monkeypatch.setenv("HEADSTART_TRAINJOB_MEMORY", "64Gi")
    resources = node(created())["resourcesPerNode"]

    assert resources["requests"] == resources["limits"] == {"nvidia.com/gpu": 8, "memory": "64Gi"}


def test_a_node_without_gpus_asks_for_a_core_for_each_process_which_runs_one_thread(created, monkeypatch):
    """Trainer starts as many processes on such a node as its request has cores."""
    monkeypatch.setenv("HEADSTART_PROCESSES", "2")
    monkeypatch.setenv("HEADSTART_TRAINJOB_DEVICE", "cpu")
    job = created()

    assert node(job)["resourcesPerNode"]["requests"] == {"cpu": 2}
    assert variables(job)["OMP_NUM_THREADS"] == "1"


def test_a_device_that_no_node_has_is_refused_before_anything_is_created(created, cluster, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRAINJOB_DEVICE", "tpu")

    with pytest.raises(InputError, match=r"^HEADSTART_TRAINJOB_DEVICE is 'tpu'; set it to gpu or cpu\.$"):
        created()
    assert cluster.jobs == {}


def test_a_train_job_waits_in_the_queue_that_the_profile_names(created, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRAINJOB_QUEUE", "headstart")
    assert created()["metadata"] == {"name": "headstart-1", "labels": {"kueue.x-k8s.io/queue-name": "headstart"}}


def test_without_a_queue_a_train_job_starts_at_once(created):
    assert created()["metadata"] == {"name": "headstart-1"}


def condition(kind, status):
    return {"type": kind, "status": status, "reason": "r", "message": "m", "lastTransitionTime": "2026-03-01T03:00:00Z"}


@pytest.mark.parametrize(
    ("conditions", "ended"),
    [
        ([], False),
        # Kueue holds it back.
        ([condition("Suspended", "True")], False),
        # Admitted; `kubectl get trainjobs` shows "Suspended" all the same.
        ([condition("Suspended", "False")], False),
        ([condition("Suspended", "False"), condition("Complete", "True")], True),
        ([condition("Complete", "True"), condition("Suspended", "False")], True),
        ([condition("Suspended", "False"), condition("Failed", "True")], True),
        ([condition("Failed", "False")], False),
    ],
)
def test_a_train_job_has_ended_when_a_condition_says_so(conditions, ended, created, cluster, jobs):
    created()
    cluster.jobs["headstart-1"]["status"] = {"conditions": conditions}
    found = jobs.find("headstart-1")

    assert (found.status in trainjob._ENDED, found.nodes) == (ended, 2)


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ("headstart", "TrainJob headstart-1 has none of its 2 nodes yet: it waits in the queue headstart"),
        ("", "TrainJob headstart-1 has none of its 2 nodes yet: see kubectl describe trainjob headstart-1"),
    ],
)
def test_a_train_job_that_gets_no_nodes_is_said_to_wait_once(queue, words, created, cluster, jobs, monkeypatch, caplog):
    monkeypatch.setenv("HEADSTART_TRAINJOB_QUEUE", queue)
    monkeypatch.setattr(trainjob, "_SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(trainjob, "_POLL_SECONDS", 0.001)
    created()
    looks = iter(range(5))

    def ends_at_the_fifth_look(*arguments, **options):
        if next(looks, None) == 4:
            cluster.jobs["headstart-1"]["status"] = {"conditions": [condition("Complete", "True")]}
        return Cluster.get_namespaced_custom_object(cluster, *arguments, **options)

    monkeypatch.setattr(jobs, "_read_logs", lambda name, lines, ended: None)
    monkeypatch.setattr(cluster, "get_namespaced_custom_object", ends_at_the_fifth_look)
    with caplog.at_level("INFO", "headstart"):
        assert jobs.watch("headstart-1", Listener(None, None)) == "Complete"
    assert [record.getMessage() for record in caplog.records] == [words]
