"""The task that labels ask for: which class a sample has, which of several labels, or a number."""

import math
from collections import Counter
from itertools import islice
from typing import Literal

from headstart.data.listing import Listing
from headstart.errors import InputError
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL

Asked = Literal["auto", "single_label", "multi_label", "regression"]
"""`single_label` takes each label as the name of a class, whatever it looks like; `multi_label` as the names of
several, `regression` as a number. `auto` takes it as what all labels together look like."""

SEPARATOR = ";"
"""Between several labels of a sample."""

_SEPARATORS = (SEPARATOR, "|", ",")
# Fewer numbers may be classes: the grades of a school, the versions of a thing.
_MANY_NUMBERS = 10
# Two classes have no order that could be lost.
_LEAST_ORDERED = 3


def task_of(listing: Listing) -> tuple[str, str]:
    """The task that labels look like, and for the data report the reason, which is "" where they are the names of
    classes that have no order.

    Raises:
        InputError: they look like several each that are written in another way than is read.
    """
    if found := _several_labels(listing):
        looks, separator = found
        if separator != SEPARATOR:
            raise InputError(
                f"{listing.name}: {looks}. Write them with {SEPARATOR} between them to learn which labels a sample "
                "has, or say task: single_label in the data section if these are the classes' names."
            )
        return MULTI_LABEL, _taken(looks, MULTI_LABEL)
    if measured := _numbers(listing):
        return REGRESSION, _taken(measured, REGRESSION)
    return SINGLE_LABEL, _ordered(listing)


def _taken(looks: str, task: str) -> str:
    start = looks[0].upper() + looks[1:]
    return f"{start}: the task is {task}. Say task: single_label in the data section if these are the classes' names."


def number_of(label: str) -> float | None:
    """The finite number that a label is; None for anything else."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _several_labels(listing: Listing) -> tuple[str, str] | None:
    """How the classes look like sets of labels, `circle;red` and `circle;blue`, and what separates these: two at least
    have parts, and half of all parts occur in several. The names of one class, `tench, Tinca tinca`, have parts of
    their own."""
    for separator in _SEPARATORS:
        compound = [name for name in listing.classes if separator in name.strip(separator)]
        parts = Counter(
            part for name in listing.classes for part in {each.strip() for each in name.split(separator)} if part
        )
        if len(compound) > 1 and 2 * sum(count > 1 for count in parts.values()) >= len(parts):
            first = " and ".join(f"'{part.strip()}'" for part in compound[0].split(separator) if part.strip())
            return f"labels such as '{compound[0]}' look like several each ({first})", separator
    return None


def _ordered(listing: Listing) -> str:
    """What becomes of the order of classes that are whole numbers in a table, as grades are; "" for other classes.
    Folders that are called by numbers are mostly digits or codes."""
    numbers = [number_of(name) for name in listing.classes]
    whole = [number for number in numbers if number is not None and number.is_integer()]
    in_folders = any(file.label in file.path.split("/")[:-1] for file in islice(listing.files, 1))
    if len(numbers) < _LEAST_ORDERED or len(whole) < len(numbers) or in_folders:
        return ""
    return (
        f"Labels are the whole numbers {min(whole):g} to {max(whole):g}: the task is single_label, for which classes "
        "have no order. Say task: regression in the data section if an answer that is off by one is better than by two."
    )


def _numbers(listing: Listing) -> str | None:
    """How the classes look like measurements: many different numbers, fractions among them or hardly two of one."""
    numbers = {name: number_of(name) for name in listing.classes}
    if len(numbers) < _MANY_NUMBERS or None in numbers.values():
        return None
    fractions = [name for name, number in numbers.items() if number is not None and not number.is_integer()]
    if fractions or len(listing.files) < 2 * len(listing.classes):
        return f"labels such as '{(fractions or listing.classes)[0]}' look like a number that was measured"
    return None
