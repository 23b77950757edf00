"""What no manifest of infra/ may do. Each policy names what breaks it; nothing named means that all is well."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.infra.manifests import Document, Pod, pods
from tests.infra.network import holds

Policy = Callable[[list[Document]], Iterator[str]]

# Where clouds hand out a machine's own credentials.
METADATA = (
    "169.254.169.254", "169.254.169.252", "169.254.170.2", "169.254.170.23", "100.100.100.200", "fd00:ec2::254",
    "fd00:ec2::23",
)  # fmt: skip
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(?:^|_)KEY(?:$|_)|ACCESS_KEY", re.IGNORECASE)
_VERSION = re.compile(r"\d+(\.\d+)+([-.+_]\w+)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _containers(documents: list[Document]) -> Iterator[tuple[Pod, dict[str, Any]]]:
    for pod in pods(documents):
        for container in pod.containers:
            yield pod, container


def _effective(pod: Pod, container: dict[str, Any], key: str) -> Any:
    """A setting of the container, or the pod's where the container has none."""
    own = container.get("securityContext", {})
    return own[key] if key in own else pod.spec.get("securityContext", {}).get(key)


def no_root(documents: list[Document]) -> Iterator[str]:
    for pod, container in _containers(documents):
        if _effective(pod, container, "runAsNonRoot") is not True or not _effective(pod, container, "runAsUser"):
            yield f"{pod}: {container['name']} may be root"


def no_privilege(documents: list[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield f"{pod}: {key}"
        for volume in pod.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{pod}: volume {volume['name']} is the node's"
        for container in pod.containers:
            settings = container.get("securityContext", {})
            if settings.get("privileged") or settings.get("allowPrivilegeEscalation") is not False:
                yield f"{pod}: {container['name']} may gain privileges"
            capabilities = settings.get("capabilities", {})
            if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
                yield f"{pod}: {container['name']} keeps capabilities"
            if _effective(pod, container, "seccompProfile") != {"type": "RuntimeDefault"}:
                yield f"{pod}: {container['name']} has every system call"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{pod}: {container['name']} takes a port of the node"


def no_writable_root(documents: list[Document]) -> Iterator[str]:
    for pod, container in _containers(documents):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{pod}: {container['name']} may write to its root file system"


def limits_everywhere(documents: list[Document]) -> Iterator[str]:
    """Requests and limits of CPU, memory and disk."""
    for pod, container in _containers(documents):
        requests, limits = (container.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for resource in ("cpu", "memory", "ephemeral-storage"):
            if resource not in requests:
                yield f"{pod}: {container['name']} requests no {resource}"
            if resource not in limits:
                yield f"{pod}: {container['name']} has no limit of {resource}"
    for pod in pods(documents):
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod}: volume {volume['name']} has no limit"


def no_secret_in_clear(documents: list[Document]) -> Iterator[str]:
    """Secrets only by reference: none in the environment's values, in arguments, or in a config map."""
    for pod, container in _containers(documents):
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            if _SECRET_NAME.search(entry["name"]) and "secretKeyRef" not in source:
                yield f"{pod}: {container['name']} has {entry['name']} in clear"
        for word in [*container.get("command", []), *container.get("args", [])]:
            # A reference to a variable, as a shell or Kubernetes replaces it, is not a value.
            if re.search(r"(?i)(password|secret|token)[=:]\s*[^\s$]|://[^/\s:@$]+:[^@\s$]+@", word):
                yield f"{pod}: {container['name']} has a secret in an argument"
    for document in documents:
        if document["kind"] == "ConfigMap":
            for key, value in document.get("data", {}).items():
                if _SECRET_NAME.search(key) or re.search(r"://[^/\s:@]+:[^@\s]+@", value):
                    yield f"ConfigMap {document['metadata']['name']} has {key} in clear"


def no_secret_at_all(documents: list[Document]) -> Iterator[str]:
    """For production: a manifest names secrets and holds none."""
    for document in documents:
        if document["kind"] == "Secret":
            yield f"Secret {document['metadata']['name']} is among the manifests"


def no_unpinned_image(documents: list[Document]) -> Iterator[str]:
    """Every image has a version of its own or a digest."""
    for pod, container in _containers(documents):
        name, _, digest = container["image"].partition("@")
        _, colon, tag = name.rpartition("/")[2].partition(":")
        if not _DIGEST.fullmatch(digest) if digest else not (colon and _VERSION.fullmatch(tag)):
            yield f"{pod}: {container['name']} runs {container['image']}"


def an_account_each(documents: list[Document]) -> Iterator[str]:
    """A service account of its own for each workload, without the cluster's token where the cluster is not asked."""
    accounts: dict[tuple[str, str], str] = {}
    # Buckets are made with the account of the store.
    together = {("Job", "headstart-buckets")}
    for pod in pods(documents):
        account = pod.spec.get("serviceAccountName", "default")
        if account == "default":
            yield f"{pod} has no account of its own"
        elif (pod.kind, pod.name) not in together:
            other = accounts.setdefault((pod.namespace, account), str(pod))
            if other != str(pod):
                yield f"{pod} shares its account with {other}"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod} is given the cluster's token"
    for document in documents:
        name = document["metadata"]["name"]
        asks = document["kind"] != "ServiceAccount" or name == "headstart-step"
        if not asks and document.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {name} hands out the cluster's token"


def probes_everywhere(documents: list[Document]) -> Iterator[str]:
    """A server is asked whether it has started, is ready and lives; what ends has a time by which it must."""
    for pod in pods(documents):
        if not pod.ends:
            for container in pod.spec["containers"]:
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    if probe not in container:
                        yield f"{pod}: {container['name']} has no {probe}"
    for document in documents:
        if document["kind"] in ("Job", "CronJob"):
            job = document["spec"] if document["kind"] == "Job" else document["spec"]["jobTemplate"]["spec"]
            if "activeDeadlineSeconds" not in job:
                yield f"{document['kind']} {document['metadata']['name']} may run for ever"


def least_rights(documents: list[Document]) -> Iterator[str]:
    """No wildcard, no secret or config map but by name, nothing that makes rights or runs in other pods."""
    for document in documents:
        if document["kind"] not in ("Role", "ClusterRole"):
            continue
        name = f"{document['kind']} {document['metadata']['name']}"
        for rule in document["rules"]:
            if "*" in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]:
                yield f"{name} has a wildcard"
            if {"secrets", "configmaps"} & set(rule["resources"]) and not rule.get("resourceNames"):
                yield f"{name} reads every one of {rule['resources']}"
            if {"pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token"} & set(rule["resources"]):
                yield f"{name} gets into pods"
            if "rbac.authorization.k8s.io" in rule["apiGroups"] or {"escalate", "bind", "impersonate"} & set(
                rule["verbs"]
            ):
                yield f"{name} gives rights"
            if document["kind"] == "ClusterRole" and not set(rule["verbs"]) <= {"get", "list"}:
                yield f"{name} changes the cluster"


def no_way_to_the_metadata_address(documents: list[Document]) -> Iterator[str]:
    """No rule admits an address at which a cloud hands out a machine's credentials, and none admits every address."""
    for document in documents:
        if document["kind"] != "NetworkPolicy":
            continue
        name = document["metadata"]["name"]
        for rule in document["spec"].get("egress", []):
            if not rule.get("to"):
                yield f"NetworkPolicy {name} admits every address"
            for peer in rule.get("to", []):
                block = peer.get("ipBlock")
                if not block:
                    continue
                yield from (f"NetworkPolicy {name} admits {address}" for address in METADATA if holds(block, address))


def restricted_namespace(documents: list[Document]) -> Iterator[str]:
    """A namespace that is ours lets no pod in that is not restricted, and is closed until a policy opens it."""
    for document in documents:
        if document["kind"] != "Namespace":
            continue
        name = document["metadata"]["name"]
        if document["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace {name} admits pods that are not restricted"
        inside = [other for other in documents if other["metadata"].get("namespace") == name]
        closed = any(
            other["kind"] == "NetworkPolicy"
            and other["spec"]["podSelector"] == {}
            and set(other["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            and not other["spec"].get("ingress")
            and not other["spec"].get("egress")
            for other in inside
        )
        if not closed:
            yield f"Namespace {name} is open by default"
        for kind in ("ResourceQuota", "LimitRange"):
            if not any(other["kind"] == kind for other in inside):
                yield f"Namespace {name} has no {kind}"


EVERYWHERE: tuple[Policy, ...] = (
    no_root,
    no_privilege,
    no_writable_root,
    limits_everywhere,
    no_secret_in_clear,
    no_unpinned_image,
    an_account_each,
    probes_everywhere,
    least_rights,
    no_way_to_the_metadata_address,
    restricted_namespace,
)
