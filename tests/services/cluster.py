"""Pods of a rendered overlay as containers of Docker, as near to a node as that comes.

A container has its pod's user, read-only root file system, dropped capabilities and memory limit, its environment from
the config maps and secrets of the same documents, `emptyDir` volumes as temporary file systems, and claims as volumes
that belong to the pod's group. It is found under its Service's names. NetworkPolicies do not count here; tests/infra
has them.
"""

import base64
import itertools
import json
import re
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tests.infra.manifests import Document, Pod, named, pods
from tests.infra.network import selects
from tests.services.servers import fail, tail

_WAIT_SECONDS = 180


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    if check and done.returncode:
        fail(f"docker {' '.join(arguments[:3])} … ended with {done.returncode}:\n{tail(done.stdout + done.stderr)}")
    return done.stdout.strip()


@dataclass
class Cluster:
    """The containers of one overlay, in a network of their own."""

    documents: list[Document]
    images: dict[str, str]
    """Name of an image in the manifests, without registry and tag → the one that runs here."""
    name: str = field(default_factory=lambda: f"headstart-test-{secrets.token_hex(3)}")
    _addresses: itertools.count = field(default_factory=lambda: itertools.count(10))
    _subnet: str = ""

    def __enter__(self) -> "Cluster":
        # A pod knows its address before it starts, which Docker does in a network of known addresses only.
        for third in range(200, 250):
            self._subnet = f"10.213.{third}"
            made = docker("network", "create", "--subnet", f"{self._subnet}.0/24", self.name, check=False)
            if made:
                return self
        return fail("Docker makes no network")

    def __exit__(self, *_: object) -> None:
        for kind, remove in (("container", ["rm", "-f"]), ("volume", ["volume", "rm"]), ("network", ["network", "rm"])):
            listing = [kind, "ls", "-q", "--filter", f"name={self.name}"] + (["-a"] if kind == "container" else [])
            for found in docker(*listing, check=False).split():
                docker(*remove, found, check=False)

    def pod(self, name: str) -> Pod:
        (found,) = (pod for pod in pods(self.documents) if pod.name == name)
        return found

    def start(self, name: str) -> "Running":
        """The server's pod: its init containers to their end, then its containers until they are ready."""
        pod = self.pod(name)
        for container in pod.spec.get("initContainers", []):
            self._run_to_its_end(pod, container)
        address = f"{self._subnet}.{next(self._addresses)}"
        first, *others = pod.spec["containers"]
        # Probes are asked at the pod's address; a person comes through a port of this machine.
        ports = [str(port["containerPort"]) for port in first["ports"]]
        network = [*self._network(pod, address), *(f"--publish=127.0.0.1::{port}" for port in ports)]
        identity = docker("run", "--detach", *network, *self._container(pod, first, address))
        running = [Running(identity, address, first)]
        for container in others:
            own = docker(
                "run", "--detach", f"--network=container:{identity}", *self._container(pod, container, address)
            )
            running.append(Running(own, address, container))
        for each in running:
            each.wait_until_ready()
        return running[0]

    def finish(self, name: str, **changes: list[str]) -> str:
        """What a job's pod prints until it ends well."""
        pod = self.pod(name)
        (container,) = pod.spec["containers"]
        return self._run_to_its_end(pod, container | changes)

    def finish_init(self, name: str, **changes: list[dict[str, str]]) -> str:
        """What the init container of a pod prints until it ends well."""
        pod = self.pod(name)
        (container,) = pod.spec["initContainers"]
        return self._run_to_its_end(pod, container | changes)

    def _run_to_its_end(self, pod: Pod, container: dict[str, Any]) -> str:
        address = f"{self._subnet}.{next(self._addresses)}"
        done = subprocess.run(
            ["docker", "run", *self._network(pod, address), *self._container(pod, container, address)],  # noqa: S607
            capture_output=True, text=True, check=False, timeout=_WAIT_SECONDS * 2,
        )  # fmt: skip
        if done.returncode:
            fail(f"{pod}: {container['name']} ended with {done.returncode}:\n{tail(done.stdout + done.stderr)}")
        return done.stdout + done.stderr

    def _network(self, pod: Pod, address: str) -> list[str]:
        options = ["--network", self.name, "--ip", address]
        for service in self.documents:
            if (
                service["kind"] == "Service"
                and service["metadata"]["namespace"] == pod.namespace
                and selects({"matchLabels": service["spec"]["selector"]}, pod.labels)
            ):
                options += [f"--network-alias={name}" for name in self._names(service)]
        return options

    def _container(self, pod: Pod, container: dict[str, Any], address: str) -> list[str]:
        """Options, image and command of a container in the pod with that address."""
        user, own = pod.spec["securityContext"], container["securityContext"]
        memory = container["resources"]["limits"]["memory"].replace("i", "").lower()
        number = address.rpartition(".")[2]
        options = [
            "--name", f"{self.name}-{pod.name}-{container['name']}-{number}",
            "--user", f"{user['runAsUser']}:{user['runAsGroup']}",
            "--security-opt", "no-new-privileges:true", "--memory", memory,
        ]  # fmt: skip
        assert own == {
            "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        options += ["--read-only", "--cap-drop", "ALL"]
        for mount in container["volumeMounts"]:
            options += self._mount(pod, mount, number)
        for name, value in self.environment(pod, container, address).items():
            options += ["--env", f"{name}={value}"]
        return options + self._command(pod, container, address)

    @staticmethod
    def _names(service: Document) -> list[str]:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        return [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]

    def _mount(self, pod: Pod, mount: dict[str, Any], number: str) -> list[str]:
        path, group = mount["mountPath"], pod.spec["securityContext"]["fsGroup"]
        volume = {each["name"]: each for each in pod.spec.get("volumes", [])}.get(mount["name"], {})
        if "emptyDir" in volume and len(pod.spec["containers"]) == 1:
            return ["--tmpfs", f"{path}:exec,mode=2777,gid={group}"]
        # What is no volume of the pod is one of the claims that a StatefulSet makes.
        claim = volume.get("persistentVolumeClaim", {"claimName": f"{mount['name']}-{pod.name}"})["claimName"]
        name = f"{self.name}-{claim}-{number}" if "emptyDir" in volume else f"{self.name}-{claim}"
        if name not in docker("volume", "ls", "-q").split():
            docker("volume", "create", name)
            script = f"chgrp {group} /volume && chmod {'2777' if 'emptyDir' in volume else '2775'} /volume"
            options = ["--rm", "--user", "0", "--volume", f"{name}:/volume", "--entrypoint", "sh"]
            docker("run", *options, self.images["postgres"], "-c", script)
        return ["--volume", f"{name}:{path}{':ro' if mount.get('readOnly') else ''}"]

    def environment(self, pod: Pod, container: dict[str, Any], address: str = "") -> dict[str, str]:
        """Name → value, as the kubelet looks them up."""
        made = {}
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            if reference := source.get("configMapKeyRef"):
                value = named(self.documents, "ConfigMap", reference["name"], pod.namespace)["data"][reference["key"]]
            elif reference := source.get("secretKeyRef"):
                value = self.secret(reference["name"], pod.namespace)[reference["key"]]
            elif source:
                assert source == {"fieldRef": {"fieldPath": "status.podIP"}}
                value = address
            else:
                value = entry["value"]
            made[entry["name"]] = value
        return made

    def secret(self, name: str, namespace: str = "headstart") -> dict[str, str]:
        data = named(self.documents, "Secret", name, namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _command(self, pod: Pod, container: dict[str, Any], address: str) -> list[str]:
        values = self.environment(pod, container, address)
        image = self.images[container["image"].rpartition("/")[2].partition(":")[0]]

        def expanded(words: list[str]) -> list[str]:
            return [re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), word) for word in words]

        command, arguments = expanded(container.get("command", [])), expanded(container.get("args", []))
        if not command:
            return [image, *arguments]
        return ["--entrypoint", command[0], image, *command[1:], *arguments]


@dataclass(frozen=True)
class Running:
    """A server's container."""

    identity: str
    address: str
    container: dict[str, Any] = field(repr=False)

    def passes(self, probe: str) -> bool:
        """Whether the container's probe of that name succeeds now."""
        check = self.container[probe]
        if "exec" in check:
            command = ["docker", "exec", self.identity, *check["exec"]["command"]]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        port = check["httpGet"]["port"]
        ports = {entry["name"]: entry["containerPort"] for entry in self.container["ports"]}
        try:
            url = f"http://{self.address}:{ports.get(port, port)}{check['httpGet']['path']}"
            with urllib.request.urlopen(url, timeout=check["timeoutSeconds"]) as response:
                return 200 <= response.status < 400
        except (OSError, urllib.error.URLError):
            return False

    def wait_until_ready(self) -> None:
        probe = self.container["startupProbe"]
        # What the kubelet would wait for, and no longer than a test may.
        deadline = time.monotonic() + min(probe["periodSeconds"] * probe["failureThreshold"], _WAIT_SECONDS)
        while not self.passes("startupProbe"):
            state = json.loads(docker("inspect", "--format", "{{json .State}}", self.identity))
            if state["Status"] == "exited" or time.monotonic() > deadline:
                fail(f"{self.container['name']} is not up ({state['Status']}):\n{tail(self.log())}")
            time.sleep(0.5)

    def here(self, port: int) -> str:
        """The address on this machine that leads to the container's port."""
        return docker("port", self.identity, str(port)).splitlines()[0]

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.identity], capture_output=True, text=True, check=False)  # noqa: S607
        return done.stdout + done.stderr

    def execute(self, *command: str) -> str:
        return docker("exec", self.identity, *command)
