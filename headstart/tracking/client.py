"""The connection to MLflow, and its errors as sentences."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

from headstart.errors import HeadstartError, InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Before mlflow is imported: users did not ask to send usage data anywhere nor to read of each table that a new store
# gets, and nothing here may be unpickled.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"

_REACH_SECONDS = 10


def connect() -> "MlflowClient":
    """A client of the server or store that MLFLOW_TRACKING_URI names.

    Raises:
        HeadstartError: the variable is not set. MLflow would then write into the working directory, which in a pod is
            lost without a word.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise HeadstartError(
            "MLFLOW_TRACKING_URI is not set, so there is nowhere to keep the record; set it to the address of the "
            "MLflow server, or run through `headstart run`, which keeps a store in its workspace."
        )
    from mlflow import MlflowClient

    with explained():
        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI", uri))


@contextmanager
def explained() -> Iterator[None]:
    """Turns MLflow's exceptions into HeadstartError with the server's own words."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        where = without_password(os.environ.get("MLFLOW_TRACKING_URI", ""))
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HeadstartError(f"MLflow at {where} refused: {first_line}") from error


def reach(uri: str) -> None:
    """Asks the server at an http(s) `uri` for a sign of life; MLflow's own client would try for minutes.

    Raises:
        InputError: nothing answers there.
    """
    if not uri.startswith(("http://", "https://")):
        return
    shown = without_password(uri)
    try:
        with urlopen(f"{shown.rstrip('/')}/health", timeout=_REACH_SECONDS):  # noqa: S310 (http or https, as checked above)
            pass
    except HTTPError:
        # Whatever it says, it is there.
        return
    except (OSError, ValueError, HTTPException) as error:
        raise InputError(
            f"The MLflow server at {shown} does not answer ({getattr(error, 'reason', error)}); start it, or correct "
            "MLFLOW_TRACKING_URI."
        ) from None


def without_password(uri: str) -> str:
    """`uri` without the user and password that it may hold, fit to be shown."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
