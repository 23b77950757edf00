"""HTTP requests to a Kubeflow Pipelines server, with errors as plain sentences."""

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

import kfp_server_api
import urllib3
from kfp_server_api.rest import RESTClientObject

from headstart.errors import HeadstartError, InputError

TOKEN_VARIABLE = "HEADSTART_KFP_TOKEN"  # noqa: S105 (a name)
COOKIE_VARIABLE = "HEADSTART_KFP_COOKIE"
CA_VARIABLE = "HEADSTART_KFP_CA"

_MESSAGE_LENGTH = 300


class UnansweredError(InputError):
    """No usable answer arrived: no connection, a time-out, a gateway without its server, or no JSON. A later attempt
    may work."""


class NotFoundError(InputError):
    """The server has no such object."""


class ConflictError(HeadstartError):
    """The server already has such an object."""


_NOT_READY = (UnansweredError, "The server at {host} is not ready ({status}{because}); run again in a while.")
# Error class and message by status; 500 stands for all other server errors, None for all other statuses.
_REFUSALS: dict[int | None, tuple[type[HeadstartError], str]] = {
    401: (
        InputError,
        "The server at {host} does not know who asks (401{because}); give a valid token with --token-file or "
        f"{TOKEN_VARIABLE}. One that worked before may have expired.",
    ),
    403: (
        InputError,
        "The server at {host} does not allow this (403{because}); ask for the right in that namespace, or name another "
        "with --namespace.",
    ),
    404: (NotFoundError, "The server at {host} has no such thing (404{because})."),
    409: (
        ConflictError,
        "The server at {host} has it already (409{because}); somebody else made it just now. Run again.",
    ),
    **dict.fromkeys((429, 502, 503, 504), _NOT_READY),
    500: (
        HeadstartError,
        "The server at {host} failed ({status}{because}); its log says more: kubectl logs -n kubeflow "
        "deploy/ml-pipeline.",
    ),
    None: (InputError, "The server at {host} refused the request ({status}{because})."),
}


class Api(kfp_server_api.ApiClient):
    """kfp_server_api's client with kfp's configuration; its errors are ours, and invalid answers are errors."""

    def __init__(self, made: kfp_server_api.ApiClient, timeout: float) -> None:
        super().__init__(made.configuration, cookie=made.cookie)
        self.default_headers.update(made.default_headers)
        self.user_agent = "headstart"
        secrets = [made.cookie, *(value for name, value in made.default_headers.items() if name != "User-Agent")]
        self.rest_client = _Rest(made.configuration, timeout, secrets=[each for each in secrets if each])
        # The client's own make a configuration, which sets up loggers, for each object of an answer, and read times of
        # any form: most of the work of following a run.
        self._ApiClient__deserialize_model = self._object
        self._ApiClient__deserialize_datetime = datetime.fromisoformat

    def deserialize(self, response: Any, response_type: Any) -> Any:
        try:
            return super().deserialize(response, response_type)
        except (ValueError, TypeError, KeyError, AttributeError, kfp_server_api.ApiException):
            host = self.configuration.host
            raise UnansweredError(
                f"The server at {host} answered with something that is no {response_type}; see that it is a Kubeflow "
                "Pipelines server of release 2.x."
            ) from None

    def _object(self, data: Any, kind: Any) -> Any:
        """The object of a class of kfp_server_api that an answer's `data` describe."""
        if not kind.openapi_types:
            return data
        given = data if isinstance(data, dict) else {}
        values = {
            name: self._ApiClient__deserialize(given[key], kind.openapi_types[name])
            for name, key in kind.attribute_map.items()
            if key in given
        }
        return kind(**values, local_vars_configuration=self.configuration)


class _Rest(RESTClientObject):
    """A client that sends each request once, with a time limit, and only to the given server."""

    def __init__(self, configuration: kfp_server_api.Configuration, timeout: float, *, secrets: list[str]) -> None:
        # No automatic retries: creating a run twice makes two.
        configuration.retries = False
        super().__init__(configuration)
        # A redirect would receive the token.
        self.pool_manager.urlopen = functools.partial(self.pool_manager.urlopen, redirect=False)
        self._configuration = configuration
        self._timeout = timeout
        self._secrets = secrets

    @property
    def host(self) -> str:
        """The server's address."""
        return str(self._configuration.host)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Send a request.

        A slow operation passes its own `_request_timeout`, in seconds.

        Raises:
            HeadstartError: there is no valid answer.
        """
        limit = max(self._timeout, options.get("_request_timeout") or 0.0)
        options["_request_timeout"] = (self._timeout, limit)
        with self.reading(limit):
            try:
                response = super().request(method, url, **options)
            except kfp_server_api.ApiException as error:
                self._refuse(error)
        if options.get("_preload_content", True):
            self._see_that_it_is_json(response.data)
        return response

    @contextlib.contextmanager
    def reading(self, limit: float | None = None) -> Iterator[None]:
        """Convert errors of the connection into HeadstartError; `limit` is the time limit of the answer in seconds."""
        host = self.host
        try:
            yield
        except urllib3.exceptions.SSLError as error:
            raise InputError(_tls(host, str(error))) from None
        # Before time-outs, of which urllib3 makes these a subclass.
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.NameResolutionError) as error:
            raise UnansweredError(
                f"The server at {host} cannot be reached ({str(error).rpartition(': ')[2]}); see that it runs, and "
                "correct the address."
            ) from None
        except urllib3.exceptions.TimeoutError:
            raise UnansweredError(
                f"The server at {host} did not answer within {limit or self._timeout:g} seconds; see that it runs and "
                "can be reached from here."
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise UnansweredError(
                f"The server at {host} broke off its answer ({type(error).__name__}); run again."
            ) from None
        except ValueError:
            # http.client refuses a header with a message that shows it.
            raise InputError(
                f"The token or cookie for the server at {host} holds a line break or another character that cannot be "
                f"sent; write it as one line of ASCII (--token-file, {TOKEN_VARIABLE} or {COOKIE_VARIABLE})."
            ) from None
        except OSError as error:
            raise InputError(f"The token cannot be read any more ({error.strerror}).") from None

    def _see_that_it_is_json(self, body: bytes) -> None:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return
        if body.lstrip()[:1] == b"<":
            raise UnansweredError(
                f"{self.host} answered with a web page where Kubeflow Pipelines' API was expected. If it is the page "
                f"to log in, give a token with --token-file or {TOKEN_VARIABLE}, or the session's cookie with "
                f"{COOKIE_VARIABLE}; else correct the address, which behind Kubeflow's gateway ends in /pipeline."
            )
        raise UnansweredError(f"The answer of the server at {self.host} is broken: it is not JSON. Run again.")

    def _refuse(self, error: kfp_server_api.ApiException) -> NoReturn:
        """Raise the error for an unsuccessful answer."""
        status, host = error.status, self.host
        if status == 0:
            raise InputError(_tls(host, str(error.reason))) from None
        said = self._shown(error.body)
        because = f": {said}" if said else ""
        if 300 <= status < 400:
            to = urlsplit(dict(error.headers or {}).get("Location", "")).hostname
            elsewhere = f" to {to}" if to and to != urlsplit(host).hostname else ""
            raise InputError(
                f"The server at {host} sends us on{elsewhere} ({status}), where no credentials go. If that is the page "
                f"to log in, give a token with --token-file or {TOKEN_VARIABLE}, or the session's cookie with "
                f"{COOKIE_VARIABLE}; else correct the address."
            ) from None
        kind, text = _REFUSALS.get(status) or _REFUSALS[500 if status >= 500 else None]
        raise kind(text.format(host=host, status=status, because=because)) from None

    def _shown(self, body: bytes | str | None) -> str:
        """Return the server's message on one line, with our credentials removed."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if isinstance(answer, dict) and answer:
            text = str(answer.get("message") or answer.get("error_message") or answer.get("error") or "")
        elif text.lstrip().startswith("<"):
            text = ""
        for secret in (*self._secrets, *self._configuration.api_key.values()):
            text = text.replace(str(secret), "…")
        line = "".join(each for each in " ".join(text.split()) if each.isprintable()).rstrip(". ")
        return line if len(line) <= _MESSAGE_LENGTH else line[:_MESSAGE_LENGTH] + " …"


def _tls(host: str, reason: str) -> str:
    if "WRONG_VERSION_NUMBER" in reason:
        return f"The server at {host} does not speak TLS; write http:// if that is meant."
    found = re.search(r"certificate verify failed: ([^(]+)", reason)
    cause = found[1].strip() if found else " ".join(reason.split())[:_MESSAGE_LENGTH]
    return (
        f"The server at {host} cannot be trusted ({cause}); if its certificate is from an authority of your own, name "
        f"the authority's certificate with --ca or {CA_VARIABLE}."
    )
