"""The network of a step's container: none where it needs none, else the narrowest that reaches its servers."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from headstart.credentials import without_password
from headstart.errors import InputError

NETWORK_VARIABLE = "HEADSTART_DOCKER_NETWORK"
"""Names the Docker network that steps join: an internal one, with the containers of MLflow and S3 and no others."""

_PORTS = {"http": 80, "https": 443}
# Where a published port answers a caller on this machine's loopback.
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True)
class Network:
    """`mode` is Docker's network mode; `addresses` says by which name and port a step finds what is at a host and port
    for others; `note` is what a person should know about it."""

    mode: str
    addresses: Mapping[tuple[str, int | None], str] = field(default_factory=dict)
    note: str = ""

    def inside(self, address: str) -> str:
        """An address as a step must write it; what is no address of the network's servers stays as it is."""
        parts = _split(address)
        name = self.addresses.get((str(parts.hostname), _port(parts))) if parts else None
        if not parts or not name:
            return address
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}{name}").geturl()


def choose(client: Any, addresses: Iterable[str], wanted: str | None) -> Network:
    """The network for steps that must reach these addresses; what has no host is on this machine.

    Args:
        client: Docker's.
        wanted: the value of HEADSTART_DOCKER_NETWORK.

    Raises:
        InputError: Docker has no network of that name, or a server on this machine's loopback is not on it.
    """
    servers = {(str(parts.hostname), _port(parts)): address for address in addresses if (parts := _split(address))}
    if not servers:
        return Network("none")
    if wanted:
        return _named(client, servers, wanted)
    if any(_is_loopback(host) for host, _ in servers):
        # From a bridge, this machine's loopback cannot be reached.
        return Network("host", note=f"a server is on this machine's loopback, so steps share this machine's network; "
                                    f"{NETWORK_VARIABLE} narrows that.")  # fmt: skip
    return Network(
        "bridge", note=f"steps can reach every network that this machine can; {NETWORK_VARIABLE} narrows that."
    )


def _named(client: Any, servers: Mapping[tuple[str, int | None], str], wanted: str) -> Network:
    from docker.errors import NotFound

    try:
        network = client.networks.get(wanted)
    except NotFound:
        raise InputError(
            f"{NETWORK_VARIABLE} names {wanted}, but Docker has no such network; make it and connect MLflow's "
            f"container: docker network create --internal {wanted}; docker network connect {wanted} CONTAINER."
        ) from None
    published = {}
    for found in (client.containers.get(each) for each in network.attrs["Containers"]):
        for inner, bindings in (found.attrs["NetworkSettings"]["Ports"] or {}).items():
            for binding in bindings or []:
                published[int(binding["HostPort"])] = (
                    binding["HostIp"],
                    f"{_name(found, wanted)}:{inner.split('/')[0]}",
                )
    names = {}
    for (host, port), address in servers.items():
        if not _is_loopback(host):
            continue
        listening, name = published.get(port or 0, (None, ""))
        if listening not in _EVERYWHERE and not (listening and _is_loopback(listening)):
            raise InputError(
                f"{without_password(address)} is on this machine's loopback, and no container on the network {wanted} "
                f"publishes that port; connect its container (docker network connect {wanted} CONTAINER), or unset "
                f"{NETWORK_VARIABLE}."
            )
        names[host, port] = name
    note = "" if network.attrs["Internal"] else f"the network {wanted} is not internal: steps reach what it leads to."
    return Network(network.name, names, note)


def _name(container: Any, network: str) -> str:
    """A container's name on a network: its service's where Compose runs it, which is what its server expects."""
    aliases = container.attrs["NetworkSettings"]["Networks"].get(network, {}).get("Aliases") or []
    service = container.labels.get("com.docker.compose.service")
    if service in aliases:
        return str(service)
    return str(next((alias for alias in aliases if not container.id.startswith(alias)), container.name))


def _split(address: str) -> SplitResult | None:
    """The parts of an address that has a host; None for any other text."""
    try:
        parts = urlsplit(address)
        # A port that is no number is found out only here.
        return parts if parts.hostname and _port(parts) != 0 else None
    except ValueError:
        return None


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
