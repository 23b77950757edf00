"""Who reaches what: every Service its users, and nobody else the database."""

import copy

import pytest

from tests.infra.manifests import Document, named, pods
from tests.infra.network import End, behind, connects, end

WHERE_STEPS_RUN = {"local": "kubeflow", "production": "headstart"}


def step(overlay: str) -> End:
    """A pod that Kubeflow Pipelines starts, driver or step."""
    return End(WHERE_STEPS_RUN[overlay], {"pipelines.kubeflow.org/v2_component": "true"})


def others(overlay: str) -> dict[str, End]:
    """What is no workload of ours, by the name that USERS has for it."""
    return {
        "step": step(overlay),
        "kubeflow": End("kubeflow", {"app": "ml-pipeline"}),
        "prometheus": End("monitoring", {"app.kubernetes.io/name": "prometheus"}),
        "ingress": End("ingress", {"app": "proxy"}, namespace_labels={"headstart/reaches-mlflow": "true"}),
        "application": End("shop", {"app": "web"}, namespace_labels={"headstart/asks-champion": "true"}),
        "stranger": End("default", {"app": "stranger"}),
        # Labels are no passport: the namespace counts as well.
        "impostor": End("default", {"app.kubernetes.io/name": "headstart-mlflow"}),
        "impostor-step": End("default", {"pipelines.kubeflow.org/v2_component": "true"}),
        "unlabelled": End("headstart", {}),
    }


def ends(overlay: str, documents: list[Document]) -> dict[str, End]:
    """Everything that could open a connection."""
    ours = {}
    for pod in pods(documents):
        name = "node" if pod.kind == "ClusterTrainingRuntime" else pod.name
        ours[name] = end(pod, WHERE_STEPS_RUN[overlay])
    return {**ours, **others(overlay)}


RECORD_USERS = {"step", "kubeflow", "ingress", "headstart-garbage"}
DATABASE_USERS = {"headstart-mlflow", "headstart-backup", "headstart-garbage"}
# Overlay, Service and the name of its port → who uses it.
USERS = {
    ("local", "headstart-mlflow", "http"): RECORD_USERS,
    ("local", "headstart-postgres", "postgres"): DATABASE_USERS,
    ("local", "headstart-objects", "s3"): {"headstart-mlflow", "headstart-buckets", "step", "node"},
    ("production", "headstart-mlflow", "http"): RECORD_USERS | {"headstart-champion"},
    ("production", "headstart-mlflow", "metrics"): {"prometheus"},
    ("production", "headstart-postgres", "postgres"): DATABASE_USERS,
}


def services(documents: list[Document]) -> list[Document]:
    return [document for document in documents if document["kind"] == "Service"]


@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_every_service_is_reached_by_its_users_and_by_nobody_else(rendered, overlay):
    documents = rendered[overlay]
    found = services(documents)
    offered = {(overlay, s["metadata"]["name"], port["name"]) for s in found for port in s["spec"]["ports"]}
    assert offered == {key for key in USERS if key[0] == overlay}
    for service in found:
        name = service["metadata"]["name"]
        servers = behind(documents, service)
        assert {port for _, port, _ in servers} == {port["name"] for port in service["spec"]["ports"]}
        for where, port, number in servers:
            reached = {
                client
                for client, at in ends(overlay, documents).items()
                if client != name and connects(documents, at, where, number)
            }
            assert reached == USERS[overlay, name, port], (name, port)


def test_the_champion_is_asked_by_labelled_namespaces_alone(rendered):
    documents = rendered["production"]
    (pod,) = (pod for pod in pods(documents) if pod.kind == "InferenceService")
    where = end(pod)
    reached = {name for name, at in ends("production", documents).items() if connects(documents, at, where, 8080)}
    assert reached == {"application"}


@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_no_server_can_be_reached_at_another_port_than_its_services(rendered, overlay):
    documents = rendered[overlay]
    for service in services(documents):
        servers = behind(documents, service)
        for where, _, _ in servers:
            for other in {22, 5000, 5432, 8333, 9333, 8888, 9464, 18888} - {number for _, _, number in servers}:
                for client in ends(overlay, documents).values():
                    assert not connects(documents, client, where, other)


@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_whatever_needs_a_name_can_ask_for_it(rendered, overlay):
    documents = rendered[overlay]
    dns = End("kube-system", {"k8s-app": "kube-dns"})
    for pod in pods(documents):
        for protocol in ("UDP", "TCP"):
            assert connects(documents, end(pod, WHERE_STEPS_RUN[overlay]), dns, 53, protocol), pod
    assert connects(documents, step(overlay), dns, 53, "UDP")


@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_a_step_reaches_kubeflow_pipelines_and_nobody_reaches_a_step(rendered, overlay):
    documents = rendered[overlay]
    for app, port in {"metadata-grpc": 8080, "seaweedfs": 8333, "ml-pipeline": 8887}.items():
        server = End("kubeflow", {"app": app})
        assert connects(documents, step(overlay), server, port), app
    assert not any(connects(documents, at, step(overlay), 8080) for at in ends(overlay, documents).values())


@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_nodes_of_a_training_speak_to_one_another_on_any_port(rendered, overlay):
    documents = rendered[overlay]
    node = ends(overlay, documents)["node"]
    assert connects(documents, node, node, 29500)
    assert connects(documents, node, node, 51234)
    assert not connects(documents, step(overlay), node, 29500)


OUTSIDE = {"kubeflow", "prometheus", "ingress", "application", "stranger", "impostor", "impostor-step"}


@pytest.mark.parametrize(
    ("change", "service", "lost", "won"),
    [
        (
            lambda d: d.remove(named(d, "NetworkPolicy", "headstart-postgres")),
            "headstart-postgres", DATABASE_USERS, set(),
        ),
        (
            lambda d: named(d, "NetworkPolicy", "headstart-postgres")["spec"]["ingress"][0].pop("from"),
            "headstart-postgres", set(), OUTSIDE,
        ),
        (
            lambda d: named(d, "NetworkPolicy", "headstart-postgres")["spec"]["ingress"][0]["from"].append(
                {"namespaceSelector": {}}
            ),
            "headstart-postgres", set(), OUTSIDE,
        ),
        (
            lambda d: named(d, "Service", "headstart-mlflow")["spec"]["ports"][0].update(targetPort=5001),
            "headstart-mlflow", RECORD_USERS, set(),
        ),
        (
            lambda d: named(d, "NetworkPolicy", "headstart-steps")["spec"]["egress"].clear(),
            "headstart-mlflow", {"step"}, set(),
        ),
    ],
)  # fmt: skip
def test_a_wrong_policy_shows(rendered, change, service, lost, won):
    documents = copy.deepcopy(rendered["local"])
    change(documents)
    ((where, port, number),) = behind(documents, named(documents, "Service", service))
    clients = {name: at for name, at in ends("local", documents).items() if name != service}
    reached = {name for name, at in clients.items() if connects(documents, at, where, number)}
    users = USERS["local", service, port]
    assert (users - reached, reached - users) == (lost, won)
