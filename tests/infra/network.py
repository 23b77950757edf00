"""Who may speak to whom, as NetworkPolicies say.

A pod that no policy selects for a direction is open in it; one that some select is open to what any of them admits. A
connection needs both ends' consent.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from tests.infra.manifests import Document, Pod, pods


@dataclass(frozen=True)
class End:
    """A pod as policies see it."""

    namespace: str
    labels: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    """Port names → numbers."""
    namespace_labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.labels.get('app.kubernetes.io/name', self.labels)}"

    @property
    def labels_of_namespace(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


def end(pod: Pod, namespace: str | None = None) -> End:
    """The pod's end; for a pod without a namespace, as one of `namespace`."""
    ports = {port["name"]: port["containerPort"] for c in pod.containers for port in c.get("ports", [])}
    return End(pod.namespace or namespace or "", pod.labels, ports)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector matches; the empty one matches everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", []):
        key, operator, values = wanted["key"], wanted["operator"], wanted.get("values", [])
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not holds:
            return False
    return True


def connects(documents: list[Document], client: End, server: End, port: int, protocol: str = "TCP") -> bool:
    """Whether the client may open a connection to the port of the server's pod."""
    return _admitted(documents, "Egress", client, server, server, port, protocol) and _admitted(
        documents, "Ingress", server, client, server, port, protocol
    )


def _admitted(
    documents: list[Document], direction: str, subject: End, peer: End, server: End, port: int, protocol: str
) -> bool:
    key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    chosen = _selecting(documents, direction, subject)
    if not chosen:
        return True
    for policy in chosen:
        for rule in policy["spec"].get(key, []):
            there = not rule.get(peers) or any(_is(peer, entry, subject.namespace) for entry in rule[peers])
            if there and _through(rule.get("ports"), server, port, protocol):
                return True
    return False


def reaches(documents: list[Document], client: End, address: str, port: int) -> bool:
    """Whether the client may open a connection to that port of an address that is no pod's."""
    return any(
        any("ipBlock" in peer and holds(peer["ipBlock"], address) for peer in rule.get("to", []))
        and _through(rule.get("ports"), client, port, "TCP")
        for policy in _selecting(documents, "Egress", client)
        for rule in policy["spec"].get("egress", [])
    )


def holds(block: dict[str, Any], address: str) -> bool:
    """Whether a block of addresses holds that one."""
    where = ipaddress.ip_address(address)
    excepted = any(where in ipaddress.ip_network(network) for network in block.get("except", []))
    return where in ipaddress.ip_network(block["cidr"]) and not excepted


def _selecting(documents: list[Document], direction: str, subject: End) -> list[Document]:
    """The policies that bind a pod in that direction."""
    return [
        policy
        for policy in documents
        if policy["kind"] == "NetworkPolicy"
        and policy["metadata"]["namespace"] == subject.namespace
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], subject.labels)
    ]


def _is(peer: End, entry: dict[str, Any], own_namespace: str) -> bool:
    if "ipBlock" in entry:
        # A pod's address is whatever the cluster gives it: a rule for addresses is not counted as one for pods.
        return False
    if "namespaceSelector" in entry:
        if not selects(entry["namespaceSelector"], peer.labels_of_namespace):
            return False
    elif peer.namespace != own_namespace:
        return False
    return selects(entry.get("podSelector", {}), peer.labels)


def _through(ports: list[dict[str, Any]] | None, server: End, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        entry.get("protocol", "TCP") == protocol
        and ("port" not in entry or port in (entry["port"], server.ports.get(entry["port"])))
        for entry in ports
    )


def behind(documents: list[Document], service: Document) -> list[tuple[End, str, int]]:
    """The pods that a Service leads to, with each port's name and its number on them."""
    found = []
    for pod in pods(documents):
        if pod.namespace != service["metadata"]["namespace"] or not selects(
            {"matchLabels": service["spec"]["selector"]}, pod.labels
        ):
            continue
        where = end(pod)
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            found.append((where, port["name"], target if isinstance(target, int) else where.ports[target]))
    return found
