"""Lists of the API: page after page, by a name, and with what is missing made."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from headstart_pipelines.cluster.transport import ConflictError

_PAGE = 100


def equals(key: str, value: str) -> str:
    """A filter, in KFP's notation, for what has `value` as its `key`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})


def paged(ask: Callable[..., Any], entries: str, *, page_size: int = _PAGE, **options: Any) -> Iterator[Any]:
    """Every entry of a list of the API; `ask` is the list's operation, `entries` the attribute of its answers."""
    token = ""
    while True:
        answer = ask(page_size=page_size, **options, **({"page_token": token} if token else {}))
        yield from getattr(answer, entries) or ()
        token = answer.next_page_token
        if not token:
            return


def named(ask: Callable[..., Any], entries: str, name: str, **options: Any) -> list[Any]:
    """The entries of a list that are called `name`."""
    listed = paged(ask, entries, filter=equals("display_name", name), **options)
    return [each for each in listed if each.display_name == name]


def found_or_made(find: Callable[[], list[Any]], make: Callable[[], Any]) -> tuple[Any, bool]:
    """The first that `find` finds, else what `make` makes, and whether it was made.

    Raises:
        ConflictError: it can neither be found nor made.
    """
    if found := find():
        return found[0], False
    try:
        return make(), True
    except ConflictError:
        # Somebody else made it just now.
        if found := find():
            return found[0], False
        raise
