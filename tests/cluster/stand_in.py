"""Stand-ins for the programs that infra/README.md calls, for a journey on a machine without a cluster.

Each is a small script on PATH that asks this process; kubectl's is answered from the manifests that the real kubectl
renders, and refuses an object, a flag or a label that is not there.
"""

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.infra.manifests import Document, render

# Exit status, and what goes to standard output and standard error.
Answer = tuple[int, str, str]
Program = Callable[[list[str]], Answer]

_SCRIPT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    with asked.makefile("rw") as lines:
        caller = {{"folder": os.getcwd(), "variables": dict(os.environ)}}
        print(json.dumps({{"program": {name!r}, "arguments": sys.argv[1:], **caller}}), file=lines, flush=True)
        status, out, err = json.loads(lines.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""
# The folder whose kubectl is the real one; the journey's PATH leads to the stand-ins.
_PATH = os.environ["PATH"]


@contextlib.contextmanager
def programs(folder: Path, answers: dict[str, Program]) -> Iterator[Path]:
    """A folder for PATH with a program for each answer, which is called in the caller's folder with its variables."""
    folder.mkdir()
    address = str(folder / "socket")
    turn = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            question = json.loads(self.rfile.readline())
            with turn, _in_place_of(question["folder"], question["variables"]):
                answer = answers[question["program"]](question["arguments"])
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    for name in answers:
        script = folder / name
        script.write_text(_SCRIPT.format(python=sys.executable, address=address, name=name))
        script.chmod(0o755)
    with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield folder
        server.shutdown()


@contextlib.contextmanager
def _in_place_of(folder: str, variables: dict[str, str]) -> Iterator[None]:
    """This process with the folder and the variables of another."""
    before = dict(os.environ)
    with contextlib.chdir(folder):
        os.environ.clear()
        os.environ.update(variables)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


# What the manifests of others bring that the README names: address → objects, as kind, namespace and name.
PIPELINES = {("deployment", "kubeflow", "ml-pipeline"), ("service", "kubeflow", "ml-pipeline")}
THEIRS = {
    "https://github.com/kubeflow/pipelines//manifests/kustomize/cluster-scoped-resources?ref=2.17.0": {
        ("crd", "", "applications.app.k8s.io")
    },
    "infra/kubeflow/local": PIPELINES,
    "https://github.com/kubernetes-sigs/kueue/releases/download/v0.19.2/manifests.yaml": {
        ("deployment", "kueue-system", "kueue-controller-manager")
    },
    "https://github.com/kubeflow/trainer.git/manifests/overlays/manager?ref=v2.3.0": {
        ("deployment", "kubeflow-system", "kubeflow-trainer-controller-manager")
    },
}
_SHORT = {"svc": "service", "po": "pod", "pods": "pod", "namespaces": "namespace", "deploy": "deployment"}
_SERVICE_PORTS = {("kubeflow", "ml-pipeline"): {8888}}
_POD = "transfer-x7k2p-pretrain"
_POD_LABELS = {"app.kubernetes.io/component": "training", "app.kubernetes.io/part-of": "headstart"}


class Cluster:
    """What kubectl sees: the objects that were applied, and one pod of a training. `lost` is called when that goes."""

    def __init__(self, lost: Callable[[str], None], present: frozenset[str] = frozenset()) -> None:
        self._lost = lost
        self.objects: set[tuple[str, str, str]] = set()
        self._ports = dict(_SERVICE_PORTS)
        self.commands: list[str] = []
        for address in present:
            self.objects |= THEIRS.get(address, {("namespace", "", address)})

    def kubectl(self, arguments: list[str]) -> Answer:
        """Does a command, or says why kubectl would not."""
        self.commands.append(shlex.join(arguments))
        words, flags = _parsed(arguments)
        verb, rest = words[0], words[1:]
        namespace = flags.get("--namespace", "default")
        if unknown := flags.keys() - _known_flags(verb):
            return _refused(f"unknown flag: {min(unknown)}")
        answer = getattr(self, f"_{verb.replace('-', '_')}")(rest, namespace, flags)
        return answer if isinstance(answer, tuple) else (0, answer or "", "")

    def _apply(self, rest: list[str], namespace: str, flags: dict[str, str]) -> str:
        self.objects |= self._of(flags)
        return "serverside-applied\n"

    def _delete(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | str:
        if rest:
            if rest != [f"pod/{_POD}"]:
                return _absent(rest[0])
            self._lost("deleted")
            return f"{rest[0]} deleted\n"
        there = self._of(flags)
        if not there <= self.objects:
            return _absent(str(min(there - self.objects)))
        self.objects -= there
        return "deleted\n"

    def _of(self, flags: dict[str, str]) -> set[tuple[str, str, str]]:
        """The objects that -k or -f names."""
        address = flags.get("--kustomize") or flags["--filename"]
        if address in THEIRS:
            if not address.startswith("https://"):
                assert (Path(address) / "kustomization.yaml").is_file(), address
            return THEIRS[address]
        documents = _rendered(Path(address).absolute())
        for document in documents:
            if document["kind"] == "Service":
                name = document["metadata"]["namespace"], document["metadata"]["name"]
                self._ports[name] = {port["port"] for port in document["spec"]["ports"]}
        return {(d["kind"].lower(), d["metadata"].get("namespace", ""), d["metadata"]["name"]) for d in documents}

    def _wait(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | None:
        if flags.get("--for") == "condition=complete" and not rest[0].startswith("job/"):
            return _refused(f"{rest[0]} has no condition complete")
        return self._present(rest, namespace, flags)

    def _rollout(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | None:
        assert rest[0] == "status"
        return self._present(rest[1:], namespace, flags)

    def _port_forward(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | None:
        name, ports = rest
        there = self._ports.get((namespace, name.partition("/")[2]), set())
        if int(ports.partition(":")[2]) not in there:
            return _refused(f"Service {name} does not have a service port {ports}")
        return self._present([name], namespace, flags)

    def _get(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | str | None:
        kind = _SHORT.get(rest[0], rest[0])
        if kind == "pod":
            if "--all-namespaces" in flags:
                return f"{_POD}\n"
            wanted = dict(pair.split("=") for pair in flags["--selector"].split(","))
            assert flags["--field-selector"] == "status.phase=Running"
            return f"pod/{_POD}\n" if wanted.items() <= _POD_LABELS.items() else ""
        if kind == "events":
            return "pulled\n"
        return self._present(rest, "" if kind == "namespace" else namespace, flags)

    def _logs(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | str:
        return "pretraining 2/60 loss 0.3\n" if rest == [f"pod/{_POD}"] else _absent(rest[0])

    def _exec(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer:
        if rest[0] != f"pod/{_POD}" or flags["--container"] != "main":
            return _absent(rest[0])
        assert rest[1:] == ["bash", "-c", "kill -9 -1"]
        self._lost("killed")
        # The container may end before the shell in it does.
        return 137, "", "command terminated with exit code 137\n"

    def _present(self, rest: list[str], namespace: str, flags: dict[str, str]) -> Answer | None:
        """Nothing if the object is there."""
        kind, _, name = (rest[0] if "/" in rest[0] else "/".join(rest)).partition("/")
        kind = _SHORT.get(kind, kind)
        where = "" if kind == "crd" else namespace
        found = {each[2] for each in self.objects if each[:2] == (kind, where)}
        return None if (found if "--all" in flags else name in found) else _absent(f"{kind} {name} in {namespace}")


def _refused(reason: str) -> Answer:
    return 1, "", f"error: {reason}\n"


def _absent(name: str) -> Answer:
    return _refused(f'from server (NotFound): "{name}" not found')


_LETTERS = {"-n": "--namespace", "-k": "--kustomize", "-f": "--filename", "-l": "--selector", "-o": "--output",
            "-c": "--container"}  # fmt: skip
# They stand alone; every other has a value.
_SWITCHES = {"--server-side", "--all", "--all-namespaces", "--ignore-not-found"}


def _parsed(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Words and flags; what follows -- are words."""
    words: list[str] = []
    flags: dict[str, str] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            words += left
            break
        if not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.partition("=")
        name = _LETTERS.get(name, name)
        flags[name] = value if equals else "" if name in _SWITCHES else left.pop(0)
    return words, flags


@functools.cache
def _known_flags(verb: str) -> frozenset[str]:
    """The flags that the real kubectl has for a command."""
    kubectl = shutil.which("kubectl", path=_PATH)
    assert kubectl
    words = ["rollout", "status"] if verb == "rollout" else [verb]
    helps = [[*words, "--help"], ["options"]]
    texts = [subprocess.run([kubectl, *each], capture_output=True, text=True, check=True).stdout for each in helps]
    return frozenset(re.findall(r"--[a-z][a-z-]+", "".join(texts)))


@functools.cache
def _rendered(folder: Path) -> list[Document]:
    os.environ["PATH"] = _PATH
    return render(folder)
