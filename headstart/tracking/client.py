"""The connection to MLflow, and its errors as sentences."""

import getpass
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
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

# Where people find the server, in the environment of steps that know it by another address.
PAGE_VARIABLE = "HEADSTART_MLFLOW_PAGE"

PAGE_SIZE = 1000

_REACH_SECONDS = 10
_SERVER_ERROR = 500
# A server that is started again, or moved to another machine, is back by then. For a step that is under way, MLflow's
# client has the patience: it asks again after 0, 4, 8, 16, 32, 64 and 120 seconds.
_PATIENCE_SECONDS = 120
_POLL_SECONDS = 1

log = logging.getLogger(__name__)


def connect() -> "MlflowClient":
    """A client of the server or store that MLFLOW_TRACKING_URI names.

    Raises:
        HeadstartError: the variable is not set. MLflow would then write into the working directory, which in a pod is
            lost without a word.
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

    # A server's answer may be part of what they write.
    make_printable(logging.lastResort, *logging.getLogger("mlflow").handlers)
    with explained():
        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI", uri))


def _without_credentials(uri: str) -> str:
    """An http(s) `uri` without user and password, which move to the variables that MLflow has for them: it would show
    them with every address in its messages."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        # Python's message may show the password.
        raise HeadstartError("MLFLOW_TRACKING_URI is not an address; correct it.") from None
    if parts.scheme in ("http", "https") and parts.password is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
        uri = os.environ["MLFLOW_TRACKING_URI"] = without_password(uri)
    return uri


@contextmanager
def explained() -> Iterator[None]:
    """Turn MLflow's exceptions into HeadstartError: the server's own words, or that it did not answer.

    As a decorator, of a function that is no generator.
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
    """What `explained` makes of an error of MLflow's or of its database's; None for any other."""
    mlflow = sys.modules.get("mlflow.exceptions")
    if isinstance(error, HeadstartError) or mlflow is None:
        return None
    return _explanation(error) if sentence(error) or isinstance(error, mlflow.MlflowException) else None


def _explanation(error: Exception) -> HeadstartError:
    from requests import RequestException

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    where = without_password(uri)
    if said := sentence(error):
        return HeadstartError(f"The record {file_of(uri) or where} {said}.")
    # MLflow's client wraps a connection that failed; what it does not wrap is an answer to an upload.
    if not isinstance(error, RequestException) and isinstance(error.__context__, RequestException):
        return HeadstartError(
            f"The MLflow server at {where} did not answer for minutes ({reason(error.__context__)}); see that it "
            "runs and that MLFLOW_TRACKING_URI names it, then run again."
        )
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HeadstartError(f"MLflow at {where} refused: {first_line.replace(uri, where) if uri else first_line}")


@contextmanager
def ignoring(error_code: str) -> Iterator[None]:
    """Leaves the body without an error where MLflow raises one with this code."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise


def search_all(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """All results of a search method of `MlflowClient`; one request for every `PAGE_SIZE` of them."""
    token = None
    while True:
        page = search(*arguments, **options, max_results=PAGE_SIZE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def reach(uri: str) -> None:
    """Asks the server at an http(s) `uri` for its first experiment; MLflow's own client would try for minutes.

    Raises:
        InputError: nothing answers there, or the server cannot read its record.
    """
    if not uri.startswith(("http://", "https://")):
        return
    shown = without_password(uri)
    question = f"{shown.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        # Without a name: a server that asks for one is there. Python would send it on to wherever it is redirected.
        with urlopen(question, timeout=_REACH_SECONDS):  # noqa: S310 (http or https, as checked above)
            pass
    except HTTPError as error:
        if error.code < _SERVER_ERROR:
            # Whatever it says, it is there.
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
    """Waits up to two minutes for the server at an http(s) `uri`, as one that is restarted is back within that.

    Raises:
        HeadstartError: nothing answered there.
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
    """The address at which people find the server at `uri`, which steps in containers may know by another name."""
    return os.environ.get(PAGE_VARIABLE) or without_password(uri)


def user_name() -> str:
    """Who acts: the user of the MLflow server, else of this machine, which in a container may have no name."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
