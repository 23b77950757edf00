"""The MLflow record that commands read."""

from pathlib import Path
from typing import Any

from headstart_pipelines.commands.arguments import UI_PORT


def connect(workspace: Path) -> Any:
    """The MLflow client of the workspace's store or of the server that the environment names."""
    from headstart.tracking.client import connect
    from headstart.tracking.run_owner import end_abandoned
    from headstart_pipelines.store import use_record

    use_record(
        workspace,
        f"There is no record in the workspace {workspace}; run a recipe first, or name the workspace of an earlier run "
        "with --workspace.",
    )
    client = connect()
    end_abandoned(client)
    return client


def is_server(uri: str) -> bool:
    """Whether the record is kept by a server, which shows it, and not in a store of the workspace."""
    return uri.startswith(("http://", "https://"))


def page_server(uri: str, port: int = UI_PORT) -> str:
    """The address of MLflow's page on the record: the server's, or where `headstart ui` shows a store."""
    return uri if is_server(uri) else f"http://127.0.0.1:{port}"
