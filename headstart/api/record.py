"""The record that a call from Python reads, for the length of that call."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.environment import environment
from headstart.tracking.store import connect_to
from headstart.workspace import find_workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_URI = "MLFLOW_TRACKING_URI"


@contextmanager
def opened(workspace: str | Path | None) -> Iterator["MlflowClient"]:
    """Yield a client of the record: of the server that MLFLOW_TRACKING_URI names, else of `workspace`'s store (None:
    see `find_workspace`). Afterwards the environment is as it was, so that calls may name different workspaces.

    Raises:
        InputError: there is no record there, it cannot be used, or the server does not answer.
    """
    place = find_workspace() if workspace is None else Path(workspace)
    with environment({_URI: os.environ.get(_URI)}):
        yield connect_to(place)
