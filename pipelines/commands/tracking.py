"""The MLflow record that commands read."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from headstart_pipelines.commands.arguments import UI_PORT

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connect(workspace: Path) -> "MlflowClient":
    """The MLflow client of the workspace's store or of the server that the environment names."""
    from headstart.tracking.store import connect_to

    return connect_to(workspace)


def is_server(uri: str) -> bool:
    """Whether the record is kept by a server, which shows it, and not in a store of the workspace."""
    return uri.startswith(("http://", "https://"))


def page_server(uri: str, port: int = UI_PORT) -> str:
    """The address of MLflow's page on the record: the server's, or where `headstart ui` shows a store."""
    return uri if is_server(uri) else f"http://127.0.0.1:{port}"


def page_command(workspace: Path) -> str:
    """The command that shows the page on a workspace's store, as a shell takes it."""
    return shlex.join(["headstart", "ui", "--workspace", str(workspace)])
