"""Settings in the name of an architecture: `timm/vit_tiny_patch16_224?img_size=96`, values as JSON.

A name is all that a bundle holds of a network's structure, so it holds every setting that is not the default.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote, unquote

from headstart.errors import InputError, shortened

_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}", re.IGNORECASE)
# Words such as gelu, token or imagenet-1k: no path and no address fits.
_WORD = re.compile(r"[A-Za-z0-9_ -]{0,64}")
_LARGEST = 2**20
_LONGEST = 4096
_DEEPEST = 4
# A network of more is built for minutes before its weights are compared; published ones have 200 at most.
_MOST_LAYERS = 1000
_COUNTS_LAYERS = ("layers", "depth", "blocks")


def with_settings(name: str, settings: Mapping[str, Any]) -> str:
    """Return the name of an architecture with settings, keys in alphabetic order."""
    if not settings:
        return name
    return f"{name}?" + "&".join(
        f"{key}={quote(json.dumps(settings[key], separators=(',', ':'), sort_keys=True), safe=_PLAIN)}"
        for key in sorted(settings)
    )


# What stands in a setting as it is.
_PLAIN = ',:[]{}"'


def split_settings(architecture: str) -> tuple[str, dict[str, Any]]:
    """Return the name without settings, and the settings.

    Raises:
        InputError: a setting is no JSON, or `check_settings` refuses it.
    """
    name, mark, query = architecture.partition("?")
    settings: dict[str, Any] = {}
    for part in query.split("&") if mark else ():
        key, _, text = part.partition("=")
        try:
            settings[key] = json.loads(unquote(text))
        except (ValueError, RecursionError):
            raise InputError(
                f"the architecture {shortened(architecture)!r} has the setting {shortened(part)!r}, which is not "
                "key=<JSON>"
            ) from None
    check_settings(settings, name)
    return name, settings


def check_settings(settings: Mapping[str, Any], of: str, *, refused: Collection[str] = ()) -> None:
    """Refuse settings that name files, addresses or code, or that no network has.

    They come from files of strangers. Allowed are numbers up to 2^20, of layers up to 1000, short words, and lists and
    mappings of these.

    Raises:
        InputError: one is refused; it is named.
    """
    for key, value in settings.items():
        if not _KEY.fullmatch(key) or key in refused or not _is_plain(value) or _is_too_deep(key, value):
            raise InputError(
                f"{of} has the setting {shortened(f'{key}={value!r}')}, which is not one of a network's structure; "
                "remove it"
            )


def _is_plain(value: Any, depth: int = 0) -> bool:
    match value:
        case None | bool():
            return True
        case int() | float():
            return -_LARGEST <= value <= _LARGEST
        case str():
            return _WORD.fullmatch(value) is not None
        case list() | tuple():
            return depth < _DEEPEST and len(value) <= _LONGEST and all(_is_plain(each, depth + 1) for each in value)
        case dict():
            return (
                depth < _DEEPEST
                and len(value) <= _LONGEST
                and all(isinstance(key, str) and _KEY.fullmatch(key) for key in value)
                and all(_is_plain(each, depth + 1) for each in value.values())
                and not any(_is_too_deep(key, each) for key, each in value.items())
            )
    return False


def _is_too_deep(key: str, value: Any) -> bool:
    """Whether a setting asks for more layers than any network has."""
    counts = value if isinstance(value, list | tuple) else [value]
    layers = [count for count in counts if isinstance(count, int) and not isinstance(count, bool)]
    return any(word in key.lower() for word in _COUNTS_LAYERS) and sum(layers) > _MOST_LAYERS
