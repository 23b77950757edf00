"""Where the record of this machine's runs is kept."""

import os
from pathlib import Path


def tracking_uri(workspace: Path) -> str:
    """The MLflow store: MLFLOW_TRACKING_URI where it is set, else a database in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(workspace / 'mlflow.db').absolute()}"


def store_file(uri: str) -> Path | None:
    """The database that keeps the record at a `tracking_uri`; None where a server does."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
