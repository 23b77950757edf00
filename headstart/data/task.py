"""The task that labels ask for: which class a sample has, which of several labels, or a number."""

import math
from collections import Counter
from typing import Literal

from headstart.data.listing import Listing
from headstart.errors import InputError

Asked = Literal["auto", "single_label", "multi_label", "regression"]
"""`auto` is single_label, and refuses labels that look like several each or like measured numbers; `single_label` takes
each as the name of a class, whatever it looks like; `multi_label` as the names of several, `regression` as a
number."""

_SEPARATORS = ";|,"
# Fewer numbers may be classes: the grades of a school, the versions of a thing.
_MANY_NUMBERS = 10


class LooksSeveral(InputError):  # noqa: N818 - a state of labels
    """Labels look like several each, and the recipe does not say what they are."""


class LooksMeasured(InputError):  # noqa: N818 - a state of labels
    """Labels look like numbers that were measured, and the recipe does not say what they are."""


def refuse_unserved(listing: Listing, task: Asked) -> None:
    """Refuse labels that ask for a task that the recipe has to name.

    Raises:
        InputError: they do; the message says what they look like, and what to do.
    """
    if task != "auto":
        return
    if looks := _several_labels(listing):
        raise LooksSeveral(
            f"{listing.name}: {looks}. Say task: multi_label in the data section to learn which labels a sample has, "
            "or task: single_label if these are the classes' names."
        )
    if looks := _numbers(listing):
        raise LooksMeasured(
            f"{listing.name}: {looks}. Say task: regression in the data section to learn the number, or task: "
            "single_label if these are the classes' names."
        )


def number_of(label: str) -> float | None:
    """The finite number that a label is; None for anything else."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _several_labels(listing: Listing) -> str | None:
    """How the classes look like sets of labels, `circle;red` and `circle;blue`: two at least have parts, and half of
    all parts occur in several. The names of one class, `tench, Tinca tinca`, have parts of their own."""
    for separator in _SEPARATORS:
        compound = [name for name in listing.classes if separator in name.strip(separator)]
        parts = Counter(
            part for name in listing.classes for part in {each.strip() for each in name.split(separator)} if part
        )
        if len(compound) > 1 and 2 * sum(count > 1 for count in parts.values()) >= len(parts):
            first = " and ".join(f"'{part.strip()}'" for part in compound[0].split(separator) if part.strip())
            return f"labels such as '{compound[0]}' look like several each ({first})"
    return None


def _numbers(listing: Listing) -> str | None:
    """How the classes look like measurements: many different numbers, fractions among them or hardly two of one."""
    numbers = {name: number_of(name) for name in listing.classes}
    if len(numbers) < _MANY_NUMBERS or None in numbers.values():
        return None
    fractions = [name for name, number in numbers.items() if number is not None and not number.is_integer()]
    if fractions or len(listing.files) < 2 * len(listing.classes):
        return f"labels such as '{(fractions or listing.classes)[0]}' look like a number that was measured"
    return None
