"""The task that labels ask for: which one class a sample has is served; several labels, or a number, are not."""

import math
from collections import Counter
from typing import Literal

from headstart.data.listing import Listing
from headstart.errors import InputError

Task = Literal["auto", "single_label"]
"""`auto` refuses labels that look like several labels each or like measured numbers; `single_label` takes each as the
name of a class, whatever it looks like."""

_SEPARATORS = ";|,"
# Fewer numbers may be classes: the grades of a school, the versions of a thing.
_MANY_NUMBERS = 10


def refuse_unserved(listing: Listing, task: Task) -> None:
    """Refuse labels that ask for a task that is not served.

    Raises:
        InputError: they do; the message says what they look like, and what to do.
    """
    if task == "auto" and (looks := _several_labels(listing) or _numbers(listing)):
        raise InputError(
            f"{listing.name}: {looks}, and headstart answers which one class a sample has, neither several labels nor "
            "a number. Give each sample the label that is asked for, such as a range of the number, or say task: "
            "single_label in the data section if these are the classes' names."
        )


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
    if len(listing.classes) < _MANY_NUMBERS or not all(map(_is_number, listing.classes)):
        return None
    fractions = [name for name in listing.classes if not float(name).is_integer()]
    if fractions or len(listing.files) < 2 * len(listing.classes):
        return f"labels such as '{(fractions or listing.classes)[0]}' look like a number that was measured"
    return None


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False
