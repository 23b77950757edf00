"""What a TrainJob asks of a cluster, in the terms of the kubeflow SDK; tests/services has TrainJobs that run."""

from types import SimpleNamespace

import pytest

from headstart.training import trainjob


class Client:
    """The SDK's client of a cluster on which no TrainJob is yet; keeps the metadata of the one that is created."""

    def __init__(self):
        self.metadata = {}

    def train(self, runtime, trainer, options):
        from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend

        backend = object.__new__(KubernetesBackend)
        specification = {}
        for option in options:
            option(specification, trainer, backend)
        self.metadata = specification["metadata"]


@pytest.fixture
def created(monkeypatch, tmp_path):
    """Creates a TrainJob and returns its metadata."""
    client = Client()
    monkeypatch.setattr(trainjob, "_client", lambda backend, runtime: client)
    monkeypatch.delenv("HEADSTART_TRAINJOB_BACKEND", raising=False)

    def create():
        exchange = SimpleNamespace(location=str(tmp_path), folder="jobs/1")
        trainjob._Jobs(str(tmp_path)).create("finetune-1", 2, exchange)
        return client.metadata

    return create


def test_a_train_job_waits_in_the_queue_that_the_profile_names(created, monkeypatch):
    monkeypatch.setenv("HEADSTART_TRAINJOB_QUEUE", "headstart")
    assert created() == {"name": "finetune-1", "labels": {"kueue.x-k8s.io/queue-name": "headstart"}}


def test_without_a_queue_a_train_job_starts_at_once(created, monkeypatch):
    monkeypatch.delenv("HEADSTART_TRAINJOB_QUEUE", raising=False)
    assert created() == {"name": "finetune-1"}
