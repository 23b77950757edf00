"""The MLflow store of this machine's runs: in the workspace, or on the server that the environment names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.tracking import database
from headstart.tracking.client import connect, reach
from headstart.tracking.run_owner import end_abandoned

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATABASE = "mlflow.db"


def tracking_uri(workspace: Path) -> str:
    """The MLflow store: MLFLOW_TRACKING_URI where it is set, else a database in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or database.address(workspace / _DATABASE)


def artifacts(workspace: Path) -> Path:
    """The folder for the artifacts of a record that is kept in a file."""
    return database.artifacts_beside(workspace / _DATABASE)


def open_record(workspace: Path, *, writing: bool = False) -> str:
    """The `tracking_uri` of the record, which the environment names from now on; one in a file need not exist yet.

    Args:
        writing: whether much will be written to it, so that it is looked at closely first.

    Raises:
        InputError: the record cannot be used or the server does not answer.
    """
    uri = tracking_uri(workspace)
    reach(uri)
    if (file := database.file_of(uri)) and database.exists(file):
        database.examine(file, writing=writing)
        if file == (workspace / _DATABASE).absolute():
            database.settle(file, artifacts(workspace))
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


def make_record(workspace: Path) -> None:
    """`open_record` of one that is made where it is missing, and the workspace too.

    Raises:
        InputError: the workspace cannot be made, the record cannot be used or the server does not answer.
    """
    uri = tracking_uri(workspace)
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        if (file := database.file_of(uri)) and not database.exists(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            database.create(file, artifacts(workspace))
    except OSError as error:
        raise InputError(
            f"The workspace {workspace} cannot be made or written into ({error.strerror}); name another folder with "
            "--workspace."
        ) from error
    open_record(workspace, writing=True)


def use_record(workspace: Path, otherwise: str) -> None:
    """`open_record` of one that exists; where there is none in the workspace, InputError, which `otherwise` says."""
    if not is_there(tracking_uri(workspace)):
        raise InputError(otherwise)
    open_record(workspace)


def connect_to(workspace: Path) -> "MlflowClient":
    """Return a client of the workspace's record, or of the server that the environment names.

    The environment names the record from now on. Runs whose process died without closing them are closed.

    Raises:
        InputError: there is no record, it cannot be used, or the server does not answer.
    """
    use_record(
        workspace,
        f"There is no record in the workspace {workspace}; run a recipe first, or name the workspace of an earlier run "
        "with --workspace.",
    )
    client = connect()
    end_abandoned(client)
    return client


def is_there(uri: str) -> bool:
    """Whether there is a record at a `tracking_uri`, as far as that shows without asking a server."""
    file = database.file_of(uri)
    return file is None or database.exists(file)
