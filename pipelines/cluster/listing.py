"""Lists of the API: paging, search by name, creation if missing."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from headstart_pipelines.cluster.transport import ConflictError

_PAGE = 100


def equals(key: str, value: str) -> str:
    """Return a filter, in KFP's notation, for entries with this value of `key`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})


def paged(ask: Callable[..., Any], entries: str, *, page_size: int = _PAGE, **options: Any) -> Iterator[Any]:
    """Yield every entry of a list of the API; `ask` is the list's operation, `entries` the attribute of its answers."""
    token = ""
    while True:
        answer = ask(page_size=page_size, **options, **({"page_token": token} if token else {}))
        yield from getattr(answer, entries) or ()
        token = answer.next_page_token
        if not token:
            return


def named(ask: Callable[..., Any], entries: str, name: str, **options: Any) -> list[Any]:
    """Return the entries of a list with the display name `name`."""
    listed = paged(ask, entries, filter=equals("display_name", name), **options)
    return [each for each in listed if each.display_name == name]


def found_or_made(find: Callable[[], list[Any]], make: Callable[[], Any]) -> tuple[Any, bool]:
    """Return the first result of `find`, else the result of `make`, and whether it was made.

    Raises:
        ConflictError: it can be neither found nor made.
    """
    if found := find():
        return found[0], False
    try:
        return make(), True
    except ConflictError:
        # Another client has made it in the meantime.
        if found := find():
            return found[0], False
        raise
