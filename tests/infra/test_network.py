"""Who reaches what: every Service its users, and nobody else the database."""

import copy
from pathlib import Path

import pytest
import yaml

from tests.infra import policies
from tests.infra.manifests import Document, named, pods, render_with
from tests.infra.network import End, behind, connects, end, reaches

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


# Pipelines' servers that steps use, and what closes each but for its own namespaces.
KUBEFLOW = {
    ("app", "seaweedfs"): (8333, "seaweedfs"),
    ("app", "ml-pipeline"): (8887, "ml-pipeline"),
    ("component", "metadata-grpc-server"): (8080, "metadata-grpc-server"),
}


@pytest.fixture(scope="module")
def theirs() -> list[Document]:
    """Policies that Kubeflow has in its own namespace."""
    return list(yaml.safe_load_all((Path(__file__).parent / "kubeflow" / "network.yaml").read_text()))


@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_a_step_reaches_the_store_of_artifacts_that_pipelines_closes(rendered, theirs, overlay):
    documents = [*rendered[overlay], named(theirs, "NetworkPolicy", "seaweedfs")]
    store = End("kubeflow", {"app": "seaweedfs"})
    assert connects(documents, step(overlay), store, 8333)
    for name in ("stranger", "impostor-step", "unlabelled"):
        assert not connects(documents, others(overlay)[name], store, 8333), name


def test_a_step_reaches_all_of_pipelines_where_the_kubeflow_distribution_closes_its_namespace(
    rendered, infra, theirs, tmp_path
):
    whole = render_with(infra, tmp_path / "infra", "production", "kubeflow-distribution", where=".")
    for (label, value), (port, closing) in KUBEFLOW.items():
        server = End("kubeflow", {label: value})
        assert connects([*whole, *theirs], step("production"), server, port), value
        assert not connects([*whole, *theirs], others("production")["impostor-step"], server, port), value
        # Without ours, what closes it would shut the steps out.
        ours = [d for d in rendered["production"] if d["metadata"].get("namespace") != "kubeflow"]
        assert not connects([*ours, named(theirs, "NetworkPolicy", closing)], step("production"), server, port), value


def test_production_closes_no_server_of_pipelines_that_was_open(rendered, theirs):
    """A policy of ours would be the first for servers that none of Pipelines' own selects."""
    gateway = End("istio-system", {"app": "istio-ingressgateway"})
    documents = [*rendered["production"], named(theirs, "NetworkPolicy", "seaweedfs")]
    for (label, value), (port, _) in KUBEFLOW.items():
        assert connects(documents, gateway, End("kubeflow", {label: value}), port), value


# Of kubeadm, kind and k3s; of EKS, GKE and AKS; of minikube; of MicroK8s.
@pytest.mark.parametrize("port", [6443, 443, 8443, 16443])
@pytest.mark.parametrize("overlay", WHERE_STEPS_RUN)
def test_a_step_reaches_the_api_server_of_the_cluster(rendered, overlay, port):
    assert reaches(rendered[overlay], step(overlay), "10.0.0.1", port)
    assert reaches(rendered[overlay], step(overlay), "fd00::1", port)
    assert not reaches(rendered[overlay], step(overlay), "10.0.0.1", 22)


@pytest.mark.parametrize(
    ("component", "opened"),
    [
        ("gke-identity", {("169.254.169.254", 80), ("169.254.169.252", 988)}),
        ("eks-identity", {("169.254.170.23", 80), ("fd00:ec2::23", 80)}),
    ],
)
def test_a_clouds_credentials_are_reached_where_its_component_is_named_and_no_others(
    rendered, infra, tmp_path, component, opened
):
    def found(documents: list[Document], client: End) -> set[tuple[str, int]]:
        return {
            (address, port)
            for address in policies.METADATA
            for port in (80, 443, 988)
            if reaches(documents, client, address, port)
        }

    documents = render_with(infra, tmp_path / "infra", "production", component)
    for name in ("step", "node"):
        assert found(documents, ends("production", documents)[name]) == opened, name
        assert found(rendered["production"], ends("production", documents)[name]) == set(), name
    assert found(documents, ends("production", documents)["headstart-mlflow"]) == set()


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
