"""Marks of settings that a search may vary, written beside a setting's type: `Annotated[float | None, Range(…)]`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    `log` draws orders of magnitude evenly; `whole` draws whole numbers. With `of`, the number drawn is a share: of what
    the rule for the size of the data gives (`rule`), or of the number of the network's stages (`stages`), at least 1 of
    either. `beside` names another setting, without which this one has no meaning.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    of: Literal["rule", "stages"] | None = None
    beside: str | None = None


@dataclass(frozen=True)
class Choices:
    """One of `values`, for example the names of a registry; `optional` adds null. With `of`, the values are the names
    of the modality's augmentations and `none`."""

    values: Iterable[Any] = ()
    optional: bool = False
    of: Literal["augmentations"] | None = None
    beside: str | None = None


Mark = Range | Choices
