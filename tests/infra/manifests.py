"""What the tests of infra/ read: an overlay as kustomize renders it, its pods, and the schemas of custom resources."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
NAMESPACES = {"local": "kubeflow", "production": "headstart"}
"""of each overlay"""
OVERLAYS = tuple(NAMESPACES)
SCHEMAS_VARIABLE = "CRD_SCHEMAS"

Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod as some workload starts it, and what it is called."""

    kind: str
    namespace: str
    labels: dict[str, str]
    spec: dict[str, Any]
    name: str
    ends: bool
    """Whether it does its work and ends, so that nobody asks how it is."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def lay_out(folder: Path) -> Path:
    """A copy of infra/ with passwords of its own, as a person has it who ran the commands of infra/README.md."""
    ours = shutil.ignore_patterns("image", "profiles", "mlflow")
    shutil.copytree(INFRA, folder, ignore=ours)
    for secret in (folder / "overlays" / "local" / "secrets").glob("*.env"):
        secret.unlink()
    subprocess.run([folder / "overlays" / "local" / "secrets.sh"], check=True, capture_output=True)
    return folder


def render(folder: Path) -> list[Document]:
    """The documents that `kubectl apply --kustomize FOLDER` sends to the cluster."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        reason = "kubectl is not installed (Debian: kubernetes-client), so no overlay can be rendered"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # kustomize says here what it will refuse in its next version.
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def render_with(infra: Path, copy: Path, overlay: str, component: str, where: str = "steps") -> list[Document]:
    """The documents of an overlay whose `where` names a further component."""
    shutil.copytree(infra, copy)
    folder = copy / "overlays" / overlay
    file = folder / where / "kustomization.yaml"
    settings = yaml.safe_load(file.read_text())
    path = os.path.relpath(copy / "components" / component, file.parent)
    # The versions come last.
    settings["components"] = [path, *settings.get("components", [])]
    file.write_text(yaml.safe_dump(settings))
    return render(folder)


def pods(documents: list[Document]) -> Iterator[Pod]:
    """The pods that the documents' workloads start."""
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        namespace = document["metadata"].get("namespace", "")
        spec = document.get("spec", {})
        if kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield _pod(kind, name, namespace, spec["template"], ends=kind == "Job")
        elif kind == "CronJob":
            yield _pod(kind, name, namespace, spec["jobTemplate"]["spec"]["template"], ends=True)
        elif kind == "InferenceService":
            predictor = spec["predictor"]
            yield Pod(kind, namespace, predictor.get("labels", {}), predictor, name, ends=False)
        elif kind == "ClusterTrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield _pod(kind, name, "", job["template"]["spec"]["template"], ends=True)


def _pod(kind: str, name: str, namespace: str, template: dict[str, Any], *, ends: bool) -> Pod:
    return Pod(kind, namespace, template.get("metadata", {}).get("labels", {}), template["spec"], name, ends)


def named(documents: list[Document], kind: str, name: str, namespace: str | None = None) -> Document:
    """The one document of that kind and name."""
    (found,) = (
        document
        for document in documents
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
        and namespace in (None, document["metadata"].get("namespace"))
    )
    return found


def strict(schema: Any) -> Any:
    """The schema with every field refused that it does not name: the API server would drop it without a word."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return made


@functools.cache
def _definitions(folder: str) -> dict[tuple[str, str], Document]:
    """Group and kind → custom resource definition, of all files in the folder."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    made = {}
    for file in sorted(Path(folder).glob("*.yaml")):
        definition = yaml.load(file.read_text(), loader)  # noqa: S506 (a safe loader)
        if isinstance(definition, dict) and definition.get("kind") == "CustomResourceDefinition":
            made[definition["spec"]["group"], definition["spec"]["names"]["kind"]] = definition
    return made


def validate_custom(document: Document) -> None:
    """Checks a custom resource against its published schema; skips the test where there are no schemas at all."""
    folder = os.environ.get(SCHEMAS_VARIABLE)
    if not folder:
        pytest.skip(f"{SCHEMAS_VARIABLE} names no folder with the published schemas of custom resources")
    group, _, name = document["apiVersion"].partition("/")
    definition = _definitions(folder).get((group, document["kind"]))
    assert definition, f"{folder} holds no schema of {document['kind']} in {group}"
    served = [version for version in definition["spec"]["versions"] if version["name"] == name and version["served"]]
    assert served, f"{document['kind']} is not served as {document['apiVersion']}"
    scope = definition["spec"]["scope"]
    assert (scope == "Namespaced") == ("namespace" in document["metadata"]), f"{document['kind']} is {scope}"
    schema = strict(served[0]["schema"]["openAPIV3Schema"])
    # What every object has is not in the schema of one kind.
    schema["properties"] |= {"metadata": {"type": "object"}, "apiVersion": {}, "kind": {}}
    jsonschema.Draft202012Validator(schema).validate(document)
