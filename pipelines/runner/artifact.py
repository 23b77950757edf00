"""An artifact of a local run: what a step made, and what the next one is told of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Marks an artifact among the JSON values that are kept of a step.
_MARK = "artifact"


@dataclass(frozen=True)
class Artifact:
    """A file or folder that a step made; `uri` is its absolute path, `title` and `version` its type in the package."""

    name: str
    uri: str
    title: str = "system.Artifact"
    version: str = "0.0.1"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        """The artifact as an executor input has it."""
        kind = {"schemaTitle": self.title, "schemaVersion": self.version}
        return {"name": self.name, "type": kind, "uri": self.uri, "metadata": dict(self.metadata)}

    def to_dict(self) -> dict[str, Any]:
        """The artifact as JSON values."""
        return {_MARK: self.message()}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> "Artifact":
        """The inverse of `to_dict`; KeyError or TypeError for values that are none."""
        told = values[_MARK]
        kind = told["type"]
        return cls(told["name"], told["uri"], kind["schemaTitle"], kind["schemaVersion"], told["metadata"])


def replaced(value: Any, change: Callable[[Artifact], Any]) -> Any:
    """A value of lists and dictionaries with each artifact in it as `change` has it."""
    if isinstance(value, Artifact):
        return change(value)
    if isinstance(value, list):
        return [replaced(each, change) for each in value]
    return {name: replaced(each, change) for name, each in value.items()} if isinstance(value, dict) else value


def restored(value: Any, change: Callable[[Artifact], Artifact]) -> Any:
    """A value of JSON in which artifacts were written by `to_dict`, with each as `change` has it."""
    if isinstance(value, dict) and value.keys() == {_MARK}:
        return change(Artifact.of_dict(value))
    if isinstance(value, list):
        return [restored(each, change) for each in value]
    return {name: restored(each, change) for name, each in value.items()} if isinstance(value, dict) else value


def runs_behind(value: Any) -> list[str]:
    """The MLflow runs that made the artifacts in a value, by their metadata; each once."""
    found: dict[str, None] = {}

    def note(artifact: Artifact) -> None:
        named = (fact for name, fact in artifact.metadata.items() if name.partition(" ")[0] == "run_id")
        found.update(dict.fromkeys(str(run) for run in named if run))

    replaced(value, note)
    return list(found)


def whole_numbers(value: Any) -> Any:
    """A JSON value with each whole number as an int: a package's numbers are doubles, and KFP reads them so."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [whole_numbers(each) for each in value]
    return {name: whole_numbers(each) for name, each in value.items()} if isinstance(value, Mapping) else value
