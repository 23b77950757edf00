"""Lineage of models in the registry: sources and descendants.

A version's tags name its source and the source's digest; the source's tags name its descendants. One of the two is
enough to join them. The digest decides: a source is found after its model was renamed, and a different model under the
same name, in a registry that was emptied and filled again, is not mistaken for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from headstart.errors import InputError
from headstart.models.reference import pin_of, unpinned
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import (
    CHAMPION,
    DESCENDANT_PREFIX,
    MODEL_DIGEST,
    ROLE,
    SOURCE_DIGEST,
    SOURCE_MODEL,
    STRATEGY,
)
from headstart.tracking.registry import find_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_REGISTRY = "models:/"

Status = Literal["registered", "missing", "replaced", "outside"]
"""`missing`: not in the registry, usually deleted. `replaced`: its name and number now belong to another model.
`outside`: not meant to be in the registry, for example torchvision's weights."""


@dataclass(eq=False)
class _Model:
    """A model that is registered or mentioned in a tag."""

    uri: str
    status: Status
    digest: str | None
    role: str | None = None
    strategy: str | None = None
    aliases: list[str] = field(default_factory=list)
    source: "_Model | None" = None
    descendants: list["_Model"] = field(default_factory=list)

    def descend_from(self, source: "_Model") -> None:
        self.source = source
        source.descendants.append(self)

    def facts(self) -> dict[str, Any]:
        name, version = _name_and_version(self.uri)
        return {
            "uri": self.uri,
            "model": name,
            "version": version,
            "digest": self.digest,
            "role": self.role,
            "strategy": self.strategy,
            "aliases": self.aliases,
            "status": self.status,
        }


def lineage(client: "MlflowClient", uri: str) -> dict[str, Any]:
    """Return the lineage of the model that `uri` names, as JSON values.

    `uri` is models:/name/version, models:/name@alias, models:/name (its champion, or else its latest version), or the
    address of a source outside the registry. Keys: uri, model, version, digest, role, strategy, aliases, status (see
    `Status`); source: the same keys for its source, or None; descendants: the same keys for each, nested, ordered by
    address.

    Raises:
        InputError: no model in the registry has that name or descends from that address.
    """
    asked = _find(client, uri)
    return {**asked.facts(), "source": _ancestors(asked, {asked}), "descendants": _descendants(asked, {asked})}


def champions(client: "MlflowClient", uri: str) -> list[dict[str, Any]]:
    """Return the champions among all descendants of the model that `uri` names, with the keys of `lineage`'s models.

    Raises:
        InputError: as `lineage`.
    """

    def below(family: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for child in family["descendants"]:
            yield {key: value for key, value in child.items() if key != "descendants"}
            yield from below(child)

    return [model for model in below(lineage(client, uri)) if CHAMPION in model["aliases"]]


def mermaid(family: Mapping[str, Any]) -> str:
    """Render the result of `lineage` as a Mermaid flowchart, sources above descendants; champions have a
    thick border."""
    nodes: list[str] = []
    edges: list[str] = []
    champion_nodes: list[str] = []

    def draw(model: Mapping[str, Any], source: str | None = None) -> str:
        node = f"m{len(nodes)}"
        nodes.append(f'    {node}["{_mermaid_text(model)}"]')
        if source:
            edges.append(f"    {source} --> {node}")
        if CHAMPION in model["aliases"]:
            champion_nodes.append(node)
        for child in model.get("descendants", ()):
            draw(child, node)
        return node

    line = [family]
    while line[0]["source"]:
        line.insert(0, line[0]["source"])
    source = None
    for model in line:
        source = draw(model, source)
    style = ["    classDef champion stroke-width:4px", f"    class {','.join(champion_nodes)} champion"]
    return "\n".join(["flowchart TD", *nodes, *edges, *(style if champion_nodes else [])])


def _mermaid_text(model: Mapping[str, Any]) -> str:
    """Return the label of a model; characters with a meaning in Mermaid or HTML are written as character codes."""
    name = f"{model['model']}/{model['version']}" if model["model"] else model["uri"]
    facts = [model["strategy"], *(f"@{alias}" for alias in model["aliases"])]
    if model["status"] in ("missing", "replaced"):
        facts.append(model["status"])
    shown = [name, " ".join(filter(None, facts))]
    return "<br>".join(
        "".join(each if each.isalnum() or each in " -./_@:" else f"#{ord(each)};" for each in text)
        for text in shown
        if text
    )


def _find(client: "MlflowClient", uri: str) -> _Model:
    """Return the model that `uri` names, joined to its relatives."""
    if uri.startswith(_REGISTRY):
        version = find_version(client, uri)
        return _Registry.read(client).registered[_uri(version.name, version.version)]
    known = _Registry.read(client).outside(unpinned(uri), pin_of(uri))
    if not known.descendants:
        raise InputError(
            f"No version in the registry names {uri} as its source. Give the source's address as a recipe has it, for "
            "example torchvision://vgg16/IMAGENET1K_V1, or a registered model."
        )
    return known


class _Registry:
    """All models mentioned in the registry's tags, each joined to its source."""

    def __init__(self, versions: list["ModelVersion"], aliases: Mapping[str, list[str]]) -> None:
        # MLflow orders versions by last change; sorting by number makes the output stable.
        versions = sorted(versions, key=lambda version: (version.name, int(version.version)))
        self.registered = {_uri(version.name, version.version): _registered(version, aliases) for version in versions}
        # Of several with one content, the first.
        self._by_digest = {model.digest or "": model for model in reversed(self.registered.values()) if model.digest}
        self._gone: dict[tuple[str, str | None], _Model] = {}
        for join in (self._join_source, self._join_descendants):
            for model, version in zip(self.registered.values(), versions, strict=True):
                join(model, version.tags)

    @classmethod
    @explained()
    def read(cls, client: "MlflowClient") -> "_Registry":
        """Read the registry in two searches, whatever its size. The second is for aliases, which a version search
        omits."""
        versions = list(search_all(client.search_model_versions))
        aliases: dict[str, list[str]] = {}
        for model in search_all(client.search_registered_models):
            for alias, number in model.aliases.items():
                aliases.setdefault(_uri(model.name, number), []).append(alias)
        return cls(versions, aliases)

    def outside(self, uri: str, digest: str | None) -> _Model:
        """Return the source at an address outside the registry; without a digest, of any content."""
        found = [model for model in self._gone.values() if model.uri == uri and _agree(model.digest, digest)]
        if len(found) == 1:
            return found[0]
        together = _Model(uri, "outside", digest)
        together.descendants = [child for model in found for child in model.descendants]
        return together

    def _join_source(self, model: _Model, tags: Mapping[str, str]) -> None:
        reference, digest = tags.get(SOURCE_MODEL), tags.get(SOURCE_DIGEST) or None
        if not reference:
            return
        reference = unpinned(reference)
        at_address = self.registered.get(reference)
        if at_address and _agree(at_address.digest, digest):
            return model.descend_from(at_address)
        same_content = self._by_digest.get(digest or "")
        model.descend_from(same_content or self._missing(reference, digest))

    def _join_descendants(self, source: _Model, tags: Mapping[str, str]) -> None:
        for tag in sorted(tags):
            if not tag.startswith(DESCENDANT_PREFIX):
                continue
            uri, digest = _REGISTRY + tag.removeprefix(DESCENDANT_PREFIX), tags[tag] or None
            child = self.registered.get(uri)
            if child is None or not _agree(child.digest, digest):
                child = self._by_digest.get(digest or "") or self._missing(uri, digest)
            if child.source is None and child is not source:
                child.descend_from(source)

    def _missing(self, uri: str, digest: str | None) -> _Model:
        """A model that is not in the registry; the same one for all that speak of it."""
        absent: Status = "replaced" if uri in self.registered else "missing"
        status = absent if uri.startswith(_REGISTRY) else "outside"
        return self._gone.setdefault((uri, digest), _Model(uri, status, digest))


def _registered(version: "ModelVersion", aliases: Mapping[str, list[str]]) -> _Model:
    uri = _uri(version.name, version.version)
    return _Model(
        uri,
        "registered",
        version.tags.get(MODEL_DIGEST) or None,
        role=version.tags.get(ROLE) or None,
        strategy=version.tags.get(STRATEGY) or None,
        aliases=sorted(aliases.get(uri, ())),
    )


def _ancestors(model: _Model, seen: set[_Model]) -> dict[str, Any] | None:
    # A model cannot descend from itself, but tags can be edited by hand: whoever was seen is not followed again.
    source = model.source
    if source is None or source in seen:
        return None
    return {**source.facts(), "source": _ancestors(source, seen | {source})}


def _descendants(model: _Model, seen: set[_Model]) -> list[dict[str, Any]]:
    family = []
    for child in model.descendants:
        if child not in seen:
            seen.add(child)
            family.append({**child.facts(), "descendants": _descendants(child, seen)})
    return family


def _agree(one: str | None, other: str | None) -> bool:
    """Return whether two digests can belong to the same content; an unknown digest matches any other."""
    return one is None or other is None or one == other


def _uri(name: str, version: Any) -> str:
    return f"{_REGISTRY}{name}/{version}"


def _name_and_version(uri: str) -> tuple[str | None, str | None]:
    if not uri.startswith(_REGISTRY):
        return None, None
    name, _, version = uri.removeprefix(_REGISTRY).rpartition("/")
    return (name, version) if name else (version, None)
