"""Registries: what headstart has several of, one file a member, and what installed packages add.

A member is called as its file is and stands in it under the registry's attribute: the `METRIC` that recipes call
macro_f1 is in headstart/metrics/scores/macro_f1.py. A package from outside names its own by entry points in the group
`headstart.<registry>`, for example in its pyproject.toml

    [project.entry-points."headstart.metrics"]
    kappa = "my_package.kappa:METRIC"

Names are known without any member being imported. A section of the recipe takes a member's name by
`Annotated[str, METRICS]`.
"""

import hashlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from importlib import import_module, metadata, util
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from headstart.errors import HeadstartError, InputError

Member = TypeVar("Member")

_GROUPS = "headstart."
LAST = 100
"""The `place` of a member that asks for none, after those of headstart's own."""


class Registry(Mapping[str, Member], Generic[Member]):
    """Members by name, in the order of their names. Each is imported when it is first asked for."""

    def __init__(
        self, name: str, package: str, attribute: str, kind: type[Member], *, packages_only: bool = False
    ) -> None:
        """The members in the modules of `package`, each of which holds a `kind` as `attribute`, and those that are
        registered under the entry points `headstart.<name>`. With `packages_only`, only its sub-packages are members.
        """
        self.name, self._package, self._attribute, self._kind = name, package, attribute, kind
        self._packages_only = packages_only
        self._members: dict[str, Member] = {}

    # Annotations such as `Annotated[str, METRICS] | None` are hashed.
    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[str]:
        return iter(sorted([*self._own, *self._added]))

    def __len__(self) -> int:
        return len(self._own) + len(self._added)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._added

    def __getitem__(self, name: str) -> Member:
        """The member called `name`.

        Raises:
            InputError: there is none, or the package that adds it cannot be imported or gives something else.
        """
        if name not in self._members:
            self._members[name] = self._load(name)
        return self._members[name]

    @property
    def built_in(self) -> tuple[str, ...]:
        """The names of headstart's own members, in order."""
        return tuple(sorted(self._own))

    def in_order(self) -> list[str]:
        """The names as people are shown them: by the members' `place`, rising, and then by name."""
        return sorted(self, key=lambda name: (getattr(self[name], "place", LAST), name))

    def require(self, name: str) -> str:
        """`name`, where it is that of a member. ValueError elsewhere, as a validator of sections raises it."""
        if name not in self:
            *others, last = (repr(each) for each in self)
            known = f"one of {', '.join(others)} or {last}" if others else last
            raise ValueError(f"{name!r} is not {known}")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.require, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self)}

    @cached_property
    def _own(self) -> frozenset[str]:
        spec = util.find_spec(self._package)
        places = spec.submodule_search_locations if spec else None
        return frozenset(
            found.name
            for found in pkgutil.iter_modules(places)
            if not found.name.startswith("_") and (found.ispkg or not self._packages_only)
        )

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        added: dict[str, EntryPoint] = {}
        for entry in _entry_points():
            if entry.group != f"{_GROUPS}{self.name}":
                continue
            taken = "headstart" if entry.name in self._own else entry.name in added and _distribution(added[entry.name])
            if taken:
                raise InputError(
                    f"{_distribution(entry)} adds {entry.name!r} to {entry.group}, which {taken} has already; "
                    "uninstall one of them, or have its entry point renamed."
                )
            added[entry.name] = entry
        return added

    def _load(self, name: str) -> Member:
        if name in self._own:
            member = getattr(import_module(f"{self._package}.{name}"), self._attribute)
        elif name in self._added:
            member = _loaded(self._added[name])
        else:
            raise InputError(f"There is no {name!r} among headstart's {self.name}; choose one of {', '.join(self)}.")
        if not isinstance(member, self._kind):
            raise InputError(
                f"{name!r} of {_GROUPS}{self.name} is {type(member).__name__} and no {self._kind.__name__}; mend the "
                "package that adds it."
            )
        return member


def added_packages() -> dict[str, str]:
    """The distributions that add members to any registry, each with its version and the digest of its code.

    They are part of what decides a result, and so of the keys under which results are kept.
    """
    return {
        _distribution(entry): f"{entry.dist.version if entry.dist else ''} {_package_digest(entry.module)}"
        for entry in _entry_points()
        if entry.dist is None or entry.dist.name != "headstart"
    }


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    groups = sorted(group for group in metadata.entry_points().groups if group.startswith(_GROUPS))
    return tuple(entry for group in groups for entry in metadata.entry_points(group=group))


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except HeadstartError:
        raise
    except Exception as error:
        raise InputError(
            f"{_distribution(entry)} adds {entry.name!r} to {entry.group}, but {entry.value} cannot be imported "
            f"({type(error).__name__}: {error}); mend or uninstall it."
        ) from error


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module


def _package_digest(module: str) -> str:
    """Of all Python files of the top-level package that holds `module`, by their places in it."""
    spec = util.find_spec(module.partition(".")[0])
    if spec is None or spec.origin is None:
        return "unknown"
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    return files_digest(folder, files)


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """The SHA-256 of files below `folder`, of their places in it and their content, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
