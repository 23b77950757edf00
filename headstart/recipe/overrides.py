"""Overrides of a recipe's values: `--set key.path=value`."""

import re
from typing import Any

from headstart import yaml_text
from headstart.errors import InputError
from headstart.sections import shortened_repr
from headstart.strategies.section import written_out


def apply_override(values: dict[str, Any], override: str) -> None:
    """Change `values`, those of a recipe's file, by one `key.path=value`, whose value is YAML.

    An entry of a list is addressed by its position or its name; a strategy that is a name alone is then written out.

    Raises:
        InputError: it has another form, or there is nothing at its path.
    """
    key, equals, text = override.partition("=")
    given = f"--set {shortened_repr(override)}"
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise InputError(f"{given}: write key=value, for example --set target.data.labels_per_class=10.")
    try:
        value = yaml_text.parse(text)
    except yaml_text.UnreadableText as error:
        raise InputError(f"{given}: the value is not valid YAML ({error}).") from None
    *parents, last = key.split(".")
    place: Any = values
    for depth, part in enumerate(parents):
        slot = _slot(place, part, given, ".".join(parents[:depth]))
        if isinstance(place, dict) and place.get(slot) is None:
            place[slot] = {}
        elif isinstance(place, list) and isinstance(place[slot], str):
            place[slot] = written_out(place[slot])
        place = place[slot]
    place[_slot(place, last, given, ".".join(parents))] = value


def _slot(place: Any, part: str, given: str, path: str) -> Any:
    """The key or the position that `part` is in `place`, which is at `path`."""
    if isinstance(place, dict):
        return part
    if not isinstance(place, list):
        raise InputError(f"{given}: {path} is not a mapping.")
    found = [position for position, item in enumerate(place) if part in (str(position), _name_of(item))]
    if not found:
        raise InputError(f"{given}: there is no entry {part!r} in that list.")
    return found[0]


def _name_of(item: Any) -> Any:
    return item.get("name", item.get("transfer")) if isinstance(item, dict) else item
