"""The registry of the kinds of data: what a reference can name, and how the samples of each are listed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from headstart.data.listing import Labels, Listing
from headstart.data.tree import Tree
from headstart.modalities import Modality
from headstart.registry import Registry
from headstart.sections import Section


@dataclass(frozen=True)
class Source:
    """The place that a reference names: a file on this machine, a folder (here, in S3 or in an archive), or neither,
    where a kind has a scheme of its own. `name` is what messages call it."""

    name: str
    path: Path | None = None
    tree: Tree | None = None


@dataclass(frozen=True)
class Wanted:
    """The options of a listing. `resources` closes the files that it reads from; `scratch` is a folder for
    what has to be unpacked, by default the system's for temporary files. `given` is the modality's `input` by which
    samples are read, by default its own."""

    modality: Modality
    labels: Labels
    resources: ExitStack
    scratch: Path | None = None
    given: Section | None = None


class Kind(ABC):
    """A kind of data, told by the scheme of a URI, the suffixes of a file's name or the content of a folder."""

    scheme = ""
    suffixes: tuple[str, ...] = ()

    published: ClassVar[Mapping[str, str]] = {}
    """How to get what is published, by the name of the folder that it unpacks to: the remedy of an error's sentence."""

    any_folder = False
    """Whether it takes every folder: it is asked last."""

    names_files = False
    """Whether a file of this kind names other files, which are part of its fingerprint."""

    def claims(self, source: Source) -> bool:
        """Whether a source is of this kind."""
        if source.path is not None:
            return bool(self.suffixes) and source.name.lower().endswith(self.suffixes)
        return source.tree is None and bool(self.scheme) and source.name.startswith(self.scheme)

    @abstractmethod
    def list(self, source: Source, wanted: Wanted) -> Listing:
        """The samples of a source.

        Raises:
            InputError: it is damaged, hostile as a whole, or cannot be a data set.
        """

    def is_unlabelled(self, source: Source, extensions: Set[str]) -> bool:
        """Whether its samples have no labels, where that can be told without unpacking anything."""
        return False

    def named_states(self, source: Source) -> Iterator[str]:
        """A line for each file that the source names, which changes when the file does. See `names_files`."""
        return iter(())

    def place(self, source: Source) -> Path | None:
        """The folder or file on this machine that holds the source and what it names. InputError for a URI that names
        nothing that can exist."""
        return source.path


KINDS = Registry("data", "headstart.data.kinds", "KIND", Kind)  # type: ignore[type-abstract]


def kind_of(source: Source) -> Kind:
    """The kind that claims a source. A file must have the suffix of one, a URI the scheme."""
    kinds = sorted(KINDS.values(), key=lambda kind: kind.any_folder)
    return next(kind for kind in kinds if kind.claims(source))


def kind_by_scheme(uri: str) -> Kind | None:
    """The kind that has the scheme of a URI; None for paths and S3."""
    return next((kind for kind in KINDS.values() if kind.claims(Source(uri))), None)


def how_to_get(name: str) -> str | None:
    """Return how to get the published data of a folder of this name; None if no kind knows it."""
    return next((kind.published[name] for kind in KINDS.values() if name in kind.published), None)


def file_suffixes() -> tuple[str, ...]:
    """The suffixes of the files that are data."""
    return tuple(suffix for kind in KINDS.values() for suffix in kind.suffixes)
