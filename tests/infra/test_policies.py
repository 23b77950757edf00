"""The rules of safety that all manifests keep, each with a manifest that breaks it."""

import copy

import pytest

from tests.infra import policies
from tests.infra.manifests import Document, named, pods
from tests.infra.policies import EVERYWHERE, Policy


def sentences(policy: Policy, documents: list[Document]) -> str:
    return "\n".join(policy(documents))


@pytest.mark.parametrize("policy", EVERYWHERE, ids=lambda policy: policy.__name__)
def test_every_overlay_keeps(policy, documents):
    assert list(policy(documents)) == []


def test_production_holds_no_secret(rendered):
    assert list(policies.no_secret_at_all(rendered["production"])) == []
    assert "Secret headstart-record" in sentences(policies.no_secret_at_all, rendered["local"])


@pytest.fixture
def broken(rendered: dict[str, list[Document]]) -> list[Document]:
    """A copy to break."""
    return copy.deepcopy(rendered["local"])


def mlflow(documents: list[Document]) -> dict:
    return named(documents, "Deployment", "headstart-mlflow")["spec"]["template"]["spec"]


def server(documents: list[Document]) -> dict:
    return mlflow(documents)["containers"][0]


@pytest.mark.parametrize(
    ("policy", "change", "sentence"),
    [
        (policies.no_root, lambda d: mlflow(d)["securityContext"].update(runAsUser=0), "mlflow may be root"),
        (policies.no_root, lambda d: server(d)["securityContext"].update(runAsUser=0), "mlflow may be root"),
        (policies.no_root, lambda d: mlflow(d)["securityContext"].pop("runAsNonRoot"), "mlflow may be root"),
        (policies.no_root, lambda d: mlflow(d)["securityContext"].pop("runAsUser"), "prepare may be root"),
        (policies.no_privilege, lambda d: server(d)["securityContext"].update(privileged=True), "gain privileges"),
        (
            policies.no_privilege,
            lambda d: server(d)["securityContext"].pop("allowPrivilegeEscalation"),
            "gain privileges",
        ),
        (
            policies.no_privilege,
            lambda d: server(d)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
            "keeps capabilities",
        ),
        (policies.no_privilege, lambda d: server(d)["securityContext"].pop("capabilities"), "keeps capabilities"),
        (policies.no_privilege, lambda d: mlflow(d)["securityContext"].pop("seccompProfile"), "every system call"),
        (policies.no_privilege, lambda d: mlflow(d).update(hostNetwork=True), "hostNetwork"),
        (
            policies.no_privilege,
            lambda d: mlflow(d)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
            "volume node is the node's",
        ),
        (policies.no_privilege, lambda d: server(d)["ports"][0].update(hostPort=80), "port of the node"),
        (
            policies.no_writable_root,
            lambda d: server(d)["securityContext"].update(readOnlyRootFilesystem=False),
            "mlflow may write",
        ),
        (policies.limits_everywhere, lambda d: server(d)["resources"]["limits"].pop("memory"), "no limit of memory"),
        (policies.limits_everywhere, lambda d: server(d)["resources"]["requests"].pop("cpu"), "requests no cpu"),
        (policies.limits_everywhere, lambda d: server(d).pop("resources"), "no limit of ephemeral-storage"),
        (policies.limits_everywhere, lambda d: mlflow(d)["volumes"][0]["emptyDir"].clear(), "tmp has no limit"),
        (
            policies.no_secret_in_clear,
            lambda d: server(d)["env"].append({"name": "PGPASSWORD", "value": "x"}),
            "PGPASSWORD in clear",
        ),
        (
            policies.no_secret_in_clear,
            lambda d: server(d)["args"].append("--backend-store-uri=postgresql://me:word@db/record"),
            "secret in an argument",
        ),
        (policies.no_secret_in_clear, lambda d: server(d)["args"].append("--password=x"), "secret in an argument"),
        (
            policies.no_secret_in_clear,
            lambda d: named(d, "ConfigMap", "headstart-record")["data"].update(AWS_SECRET_ACCESS_KEY="x"),
            "AWS_SECRET_ACCESS_KEY in clear",
        ),
        (policies.no_unpinned_image, lambda d: server(d).update(image="mlflow"), "runs mlflow"),
        (policies.no_unpinned_image, lambda d: server(d).update(image="mlflow:latest"), "runs mlflow:latest"),
        (policies.no_unpinned_image, lambda d: server(d).update(image="host:5000/mlflow"), "runs host:5000/mlflow"),
        (policies.no_unpinned_image, lambda d: server(d).update(image="mlflow@sha256:1"), "runs mlflow@sha256:1"),
        (
            policies.no_unpinned_image,
            lambda d: server(d).update(image="headstart-mlflow:from-versions"),
            "runs headstart-mlflow:from-versions",
        ),
        (policies.an_account_each, lambda d: mlflow(d).pop("serviceAccountName"), "no account of its own"),
        (
            policies.an_account_each,
            lambda d: mlflow(d).update(serviceAccountName="headstart-postgres"),
            "shares its account",
        ),
        (policies.an_account_each, lambda d: mlflow(d).pop("automountServiceAccountToken"), "the cluster's token"),
        (
            policies.an_account_each,
            lambda d: named(d, "ServiceAccount", "headstart-node").pop("automountServiceAccountToken"),
            "hands out the cluster's token",
        ),
        (policies.probes_everywhere, lambda d: server(d).pop("startupProbe"), "mlflow has no startupProbe"),
        (policies.probes_everywhere, lambda d: server(d).pop("readinessProbe"), "mlflow has no readinessProbe"),
        (policies.probes_everywhere, lambda d: server(d).pop("livenessProbe"), "mlflow has no livenessProbe"),
        (
            policies.probes_everywhere,
            lambda d: named(d, "Job", "headstart-buckets")["spec"].pop("activeDeadlineSeconds"),
            "headstart-buckets may run for ever",
        ),
        (
            policies.least_rights,
            lambda d: named(d, "Role", "headstart-step")["rules"][0].update(verbs=["*"]),
            "has a wildcard",
        ),
        (
            policies.least_rights,
            lambda d: [rule.pop("resourceNames", None) for rule in named(d, "Role", "headstart-step")["rules"]],
            "reads every one of ['secrets']",
        ),
        (
            policies.least_rights,
            lambda d: named(d, "Role", "headstart-step")["rules"][1]["resources"].append("pods/exec"),
            "gets into pods",
        ),
        (
            policies.least_rights,
            lambda d: named(d, "ClusterRole", "headstart-step")["rules"][0]["verbs"].append("create"),
            "changes the cluster",
        ),
        (
            policies.least_rights,
            lambda d: named(d, "ClusterRole", "headstart-step")["rules"].append(
                {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["list"]}
            ),
            "gives rights",
        ),
        (
            policies.no_way_to_the_metadata_address,
            lambda d: named(d, "NetworkPolicy", "headstart-steps")["spec"]["egress"][-1]["to"][0]["ipBlock"].pop(
                "except"
            ),
            "headstart-steps admits 169.254.169.254",
        ),
        (
            policies.no_way_to_the_metadata_address,
            lambda d: named(d, "NetworkPolicy", "headstart-steps")["spec"]["egress"][-1]["to"][1]["ipBlock"].update(
                {"except": ["fe80::/10"]}
            ),
            "headstart-steps admits fd00:ec2::254",
        ),
        (
            policies.no_way_to_the_metadata_address,
            lambda d: named(d, "NetworkPolicy", "names")["spec"]["egress"][0].pop("to"),
            "names admits every address",
        ),
        (
            policies.restricted_namespace,
            lambda d: named(d, "Namespace", "headstart")["metadata"]["labels"].update(
                {"pod-security.kubernetes.io/enforce": "baseline"}
            ),
            "not restricted",
        ),
        (
            policies.restricted_namespace,
            lambda d: named(d, "NetworkPolicy", "default-deny")["spec"].update(egress=[{}]),
            "open by default",
        ),
        (
            policies.restricted_namespace,
            lambda d: d.remove(named(d, "LimitRange", "headstart")),
            "has no LimitRange",
        ),
    ],
)
def test_a_manifest_that_breaks_it_is_named(broken, policy, change, sentence):
    change(broken)
    assert sentence in sentences(policy, broken)


def test_every_policy_has_a_manifest_that_breaks_it():
    (mark,) = (m for m in test_a_manifest_that_breaks_it_is_named.pytestmark if m.name == "parametrize")
    assert {policy for policy, _, _ in mark.args[1]} == set(EVERYWHERE)


def test_every_kind_of_workload_is_looked_at(documents):
    """A kind that `pods` does not know would pass every policy."""
    known = {pod.kind for pod in pods(documents)}
    starting = {d["kind"] for d in documents if "containers:" in repr(d).replace("'", "")}
    assert starting <= known


def test_the_servers_run_as_the_users_that_their_images_have(documents):
    users = {"postgres": 999, "seaweedfs": 1000, "headstart-mlflow": 10001, "headstart": 10001}
    for pod in pods(documents):
        for container in pod.containers:
            name = container["image"].rpartition("/")[2].partition(":")[0]
            assert pod.spec["securityContext"]["runAsUser"] == users[name], pod


def test_a_step_that_names_no_limit_is_neither_slowed_nor_evicted(documents):
    """Defaults of CPU would slow it; of disk, evict it for what Pipelines downloads into its volumes."""
    (limit,) = named(documents, "LimitRange", "headstart")["spec"]["limits"]
    assert limit["default"].keys() == {"memory"}
    quota = named(documents, "ResourceQuota", "headstart")["spec"]["hard"]
    # What the quota counts, every container must name or be given.
    counted = {name.partition(".")[2] for name in quota if name.startswith("requests.")}
    assert counted - {"storage", "nvidia.com/gpu"} == limit["defaultRequest"].keys()
    assert {name.partition(".")[2] for name in quota if name.startswith("limits.")} == limit["default"].keys()


def test_mlflow_asks_for_a_login_reads_no_pickle_and_reports_nothing(documents):
    container = server(documents)
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert "--app-name=basic-auth" in container["args"]
    assert "--serve-artifacts" in container["args"]
    assert values["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert values["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert not any("gunicorn" in word or "disable-security" in word for word in container["args"])


@pytest.mark.parametrize("name", ["headstart-mlflow", "headstart-mlflow.headstart", "headstart-mlflow.headstart.svc",
                                  "headstart-mlflow.headstart.svc.cluster.local"])  # fmt: skip
def test_mlflow_answers_to_each_of_its_names_with_and_without_the_port(documents, name):
    from mlflow.server.security_utils import is_allowed_host_header

    (argument,) = (word for word in server(documents)["args"] if word.startswith("--allowed-hosts="))
    hosts = argument.partition("=")[2].split(",")
    assert is_allowed_host_header(hosts, name)
    assert is_allowed_host_header(hosts, f"{name}:5000")
    assert is_allowed_host_header(hosts, "127.0.0.1:5000")
    assert not is_allowed_host_header(hosts, f"{name}.example.org")
    assert not is_allowed_host_header(hosts, "evil.example.org:5000")
