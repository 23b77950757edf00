"""Where the record of this machine's runs is kept."""

import os
from pathlib import Path

from headstart.errors import InputError


def tracking_uri(workspace: Path) -> str:
    """The MLflow store: MLFLOW_TRACKING_URI where it is set, else a database in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(workspace / 'mlflow.db').absolute()}"


def use_record(workspace: Path, otherwise: str) -> None:
    """Has this process read and write the workspace's record, or that of the server that the environment names.

    Raises:
        InputError: the server does not answer; or there is no record in the workspace, which `otherwise` says.
    """
    from headstart.tracking.client import reach

    uri = tracking_uri(workspace)
    reach(uri)
    if not is_there(uri):
        raise InputError(otherwise)
    os.environ["MLFLOW_TRACKING_URI"] = uri


def is_there(uri: str) -> bool:
    """Whether there is a record at a `tracking_uri`, as far as that shows without asking a server."""
    database = store_file(uri)
    return database is None or database.exists()


def store_file(uri: str) -> Path | None:
    """The database that keeps the record at a `tracking_uri`; None where a server does."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
