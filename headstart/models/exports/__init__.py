"""Formats of other tools that a bundle is exported to, one file each; each file says how the export is read again."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from headstart.models.bundle import ModelBundle
from headstart.registry import Registry


class Format(ABC):
    """A format: what it is, which bundles it holds, and how one is written and read."""

    title: ClassVar[str]
    """what the format is, for help and messages"""

    suffix: ClassVar[str] = ""
    """the end of the file's name, empty for a folder"""
    holds_every_task: ClassVar[bool] = False
    """whether it can hold a model that answers with a number, or with several labels"""

    @abstractmethod
    def refusal(self, bundle: ModelBundle) -> str | None:
        """Why the format cannot hold the bundle, as far as its description tells; None if it can."""

    @abstractmethod
    def write(self, bundle: ModelBundle, path: Path, *, digest: str) -> float:
        """Write the bundle to `path`, an empty folder or a new file, and return the largest difference of an output
        between what its users' tool reads there and the bundle.

        Raises:
            NotTheLibrarys: the format cannot hold it.
            InputError: a package is missing; its extra is named.
        """


FORMATS = Registry("exports", "headstart.models.exports", "FORMAT", Format)  # type: ignore[type-abstract]
"""Export formats by the name that `headstart export --format` takes."""
