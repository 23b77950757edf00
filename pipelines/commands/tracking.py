"""Where the commands find the record."""

import os
from pathlib import Path
from typing import Any

from headstart.errors import InputError
from pipelines.commands.arguments import UI_PORT


def connect(workspace: Path) -> Any:
    """The MLflow client of the workspace's store or of the server that the environment names."""
    from headstart.tracking.client import connect, reach
    from pipelines.store import store_file, tracking_uri

    uri = tracking_uri(workspace)
    reach(uri)
    database = store_file(uri)
    if database and not database.exists():
        raise InputError(
            f"There is no record in the workspace {workspace}; run a recipe first, or name the workspace of an earlier "
            "run with --workspace."
        )
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return connect()


def is_server(uri: str) -> bool:
    """Whether the record is kept by a server, which shows it, and not in a store of the workspace."""
    return uri.startswith(("http://", "https://"))


def page_server(uri: str, port: int = UI_PORT) -> str:
    """The address of MLflow's page on the record: the server's, or where `headstart ui` shows a store."""
    return uri if is_server(uri) else f"http://127.0.0.1:{port}"
