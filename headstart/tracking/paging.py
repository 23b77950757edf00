"""What MLflow finds, page by page."""

from collections.abc import Callable, Iterator
from typing import Any

PAGE_SIZE = 1000


def search_all(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """All that a search method of `MlflowClient` finds; one request for every `PAGE_SIZE` results."""
    token = None
    while True:
        page = search(*arguments, **options, max_results=PAGE_SIZE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
