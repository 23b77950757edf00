"""Connection to MLflow, and its errors as plain sentences."""

import getpass
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from headstart.credentials import require_sendable, without_password
from headstart.errors import HeadstartError, InputError
from headstart.terminal import make_printable
from headstart.tracking.database import file_of, sentence
from headstart.tracking.mlflow_settings import configure_mlflow, reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Environment variable with the address at which people reach the server, for steps that reach it at another one.
PAGE_VARIABLE = "HEADSTART_MLFLOW_PAGE"

PAGE_SIZE = 1000

_REACH_SECONDS = 10
_SERVER_ERROR = 500
# A server that restarts or moves to another machine is back within this time. In a step that is already running,
# MLflow's client retries by itself, after 0, 4, 8, 16, 32, 64 and 120 seconds.
_PATIENCE_SECONDS = 120
_POLL_SECONDS = 1
# In MLflow's message, which calls the tables out-of-date also where they are newer than it.
_OTHER_SCHEMA = re.compile(r"database schema \(found version (\w+), but expected \w+\)")

log = logging.getLogger(__name__)


def connect() -> "MlflowClient":
    """Return a client of the server or store that MLFLOW_TRACKING_URI names.

    Raises:
        HeadstartError: the variable is not set. MLflow would then write into the working directory, which is lost when
            a pod ends.
    """
    uri = _without_credentials(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if not uri:
        raise HeadstartError(
            "MLFLOW_TRACKING_URI is not set, so there is nowhere to keep the record; set it to the address of the "
            "MLflow server, or run through `headstart run`, which keeps a store in its workspace."
        )
    require_sendable("MLFLOW_TRACKING_TOKEN")
    configure_mlflow()
    from mlflow import MlflowClient

    # Their messages may contain a server's answer.
    make_printable(logging.lastResort, *logging.getLogger("mlflow").handlers)
    with explained():
        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI", uri))


def _without_credentials(uri: str) -> str:
    """Return an http(s) `uri` without user and password, which are moved to MLflow's own variables: MLflow shows the
    address in its messages."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        # Python's message may contain the password.
        raise HeadstartError("MLFLOW_TRACKING_URI is not an address; correct it.") from None
    if parts.scheme in ("http", "https") and parts.password is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
        uri = os.environ["MLFLOW_TRACKING_URI"] = without_password(uri)
    return uri


@contextmanager
def explained() -> Iterator[None]:
    """Convert MLflow's exceptions into HeadstartError, with the server's message or the fact that it did not answer.

    Also a decorator, for functions that are not generators.
    """
    from requests import RequestException  # type: ignore[import-untyped]

    try:
        yield
    except RequestException as error:
        raise _explanation(error) from error
    except Exception as error:
        if known := explanation(error):
            raise known from error
        raise


def explanation(error: Exception) -> HeadstartError | None:
    """Return the HeadstartError for an error of MLflow or its database; None for any other error."""
    mlflow = sys.modules.get("mlflow.exceptions")
    if isinstance(error, HeadstartError) or mlflow is None:
        return None
    return _explanation(error) if sentence(error) or isinstance(error, mlflow.MlflowException) else None


def _explanation(error: Exception) -> HeadstartError:
    from requests import RequestException

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    where = without_password(uri)
    if said := sentence(error) or _of_another_release(error):
        return HeadstartError(f"The record {file_of(uri) or where} {said}.")
    # MLflow's client wraps failed connections, but not error responses to an upload.
    if not isinstance(error, RequestException) and isinstance(error.__context__, RequestException):
        return HeadstartError(
            f"The MLflow server at {where} did not answer for minutes ({reason(error.__context__)}); see that it "
            "runs and that MLFLOW_TRACKING_URI names it, then run again."
        )
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HeadstartError(f"MLflow at {where} refused: {first_line.replace(uri, where) if uri else first_line}")


def _of_another_release(error: Exception) -> str | None:
    """Cause and remedy where another release of MLflow made the database's tables; None for any other error."""
    found = _OTHER_SCHEMA.search(str(error))
    if found is None:
        return None
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(migrations.glob(f"{found[1]}_*.py")):
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        address = shlex.quote(uri) if file_of(uri) else '"$MLFLOW_TRACKING_URI"'
        return (
            f"was written by an MLflow older than {mlflow.__version__}, which is installed here; copy it for a backup, "
            f"then run mlflow db upgrade {address} to bring it up to date"
        )
    return (
        f"was written by an MLflow newer than {mlflow.__version__}, which is installed here; install a release that is "
        "as new (pip install --upgrade mlflow)"
    )


@contextmanager
def ignoring(error_code: str) -> Iterator[None]:
    """Suppress MLflow's error with this code."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise


def search_all(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Yield all results of a search method of `MlflowClient`, with one request for every `PAGE_SIZE` of them."""
    token = None
    while True:
        page = search(*arguments, **options, max_results=PAGE_SIZE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def reach(uri: str) -> None:
    """Request the first experiment from the server at an http(s) `uri`, once; MLflow's own client would retry for
    minutes.

    Raises:
        InputError: nothing answers there, or the server cannot read its record.
    """
    if not uri.startswith(("http://", "https://")):
        return
    shown = without_password(uri)
    question = f"{shown.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        # Sent without credentials: a server that asks for them is reachable, and Python would forward them on a
        # redirect.
        with urlopen(question, timeout=_REACH_SECONDS):  # noqa: S310 (http or https, as checked above)
            pass
    except HTTPError as error:
        if error.code < _SERVER_ERROR:
            # Any client error shows that a server is there.
            return
        raise InputError(
            f"The MLflow server at {shown} answers with status {error.code} ({error.reason}); its log says why. Mend "
            "that, or correct MLFLOW_TRACKING_URI."
        ) from None
    except (OSError, ValueError, HTTPException) as error:
        raise InputError(
            f"The MLflow server at {shown} does not answer ({reason(error)}); start it, or correct MLFLOW_TRACKING_URI."
        ) from None


def await_server(uri: str) -> None:
    """Wait up to two minutes, the time of a restart, for the server at an http(s) `uri`.

    Raises:
        HeadstartError: no server answered.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    told = False
    while True:
        try:
            return reach(uri)
        except InputError as error:
            if time.monotonic() >= deadline:
                raise HeadstartError(f"{error} This step waited {_PATIENCE_SECONDS} seconds for it.") from None
            if not told:
                told = True
                log.warning("%s Waiting for it for up to %d seconds.", error, _PATIENCE_SECONDS)
        time.sleep(_POLL_SECONDS)


def shown_to_people(uri: str) -> str:
    """Return the address at which people reach the server at `uri`; steps in containers may use another one."""
    return os.environ.get(PAGE_VARIABLE) or without_password(uri)


def user_name() -> str:
    """Return the current user: the user at the MLflow server, else on this machine, else "uid N", as a container's user
    may have no name."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
