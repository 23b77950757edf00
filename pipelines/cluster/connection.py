"""Connection to a Kubeflow Pipelines server: address, credentials and namespace."""

import functools
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api
from kfp.client import Client
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from headstart.errors import InputError
from headstart_pipelines.cluster.transport import (
    CA_VARIABLE,
    COOKIE_VARIABLE,
    TOKEN_VARIABLE,
    Api,
    NotFoundError,
    UnansweredError,
)

HOST_VARIABLE = "HEADSTART_KFP_HOST"
NAMESPACE_VARIABLE = "HEADSTART_KFP_NAMESPACE"

# The address of KFP's API inside its cluster, as in Kubeflow's own manifests.
_IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
# The path at which Kubeflow's PodDefaults mount a pod's token for KFP; the variable is kfp's own.
_POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
_POD_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 (a name)
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT_SECONDS = 30.0


def _service(kind: Callable[[kfp_server_api.ApiClient], Any]) -> "functools.cached_property[Any]":
    """Return an attribute of `Server`: one of the services of its API."""
    return functools.cached_property(lambda server: kind(server.api))


@dataclass(frozen=True)
class Server:
    """A server that answered. `namespace` is None on a single-user server; `release`, for example 2.17.0, is None if
    the server does not report it."""

    host: str
    namespace: str | None
    release: str | None
    api: kfp_server_api.ApiClient = field(repr=False)

    runs = _service(kfp_server_api.RunServiceApi)
    experiments = _service(kfp_server_api.ExperimentServiceApi)
    pipelines = _service(kfp_server_api.PipelineServiceApi)
    uploads = _service(kfp_server_api.PipelineUploadServiceApi)
    schedules = _service(kfp_server_api.RecurringRunServiceApi)

    @property
    def scope(self) -> dict[str, Any]:
        """The options that restrict a list of the API to the namespace, on a multi-user server."""
        return {"namespace": self.namespace} if self.namespace else {}

    def read(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Return the body at a path for which kfp_server_api has no method."""
        response = self.api.call_api(
            path, "GET", query_params=list((query or {}).items()), auth_settings=["Bearer"], _preload_content=False,
            _return_http_data_only=True,
        )  # fmt: skip
        with self.api.rest_client.reading():
            return response.read()

    def page(self, run_id: str) -> str:
        """Return the address of a run's page; KFP's own variable names the page's server if it differs from
        the API's."""
        return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT', self.host).rstrip('/')}/#/runs/details/{run_id}"


def connect(
    host: str | None = None,
    *,
    namespace: str | None = None,
    token_file: Path | None = None,
    ca: Path | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> Server:
    """Connect to a server and check that it answers. Arguments that are None are taken from the environment.

    Raises:
        InputError: the address is unknown, a named file cannot be read, or the server denies access.
        UnansweredError: the server or its API does not answer.
    """
    host = _host(host)
    client = _client(host, token_file, ca)
    # kfp does not expose the client that it has configured.
    api = Api(client._run_api.api_client, timeout)
    try:
        health = api.call_api(
            "/apis/v2beta1/healthz", "GET", response_type="object", auth_settings=["Bearer"],
            _return_http_data_only=True,
        )  # fmt: skip
    except NotFoundError:
        raise InputError(
            f"There is no Kubeflow Pipelines API at {host}; correct the address. Behind Kubeflow's gateway it ends in "
            "/pipeline."
        ) from None
    # The server of KFP's page forwards other requests, but answers this one itself.
    if health.get("apiServerReady") is False:
        raise UnansweredError(
            f"Kubeflow Pipelines' page is at {host}, but its API server does not answer there; see that it runs: "
            "kubectl get -n kubeflow deploy/ml-pipeline."
        )
    namespace = namespace or os.environ.get(NAMESPACE_VARIABLE) or client.get_user_namespace() or _pod_namespace()
    if health.get("multi_user") and not namespace:
        raise InputError(
            f"The server at {host} keeps its users apart, so it has to know whose namespace is meant; name it with "
            f"--namespace or {NAMESPACE_VARIABLE}."
        )
    found = re.fullmatch(r"v?(\d+\.\d+\.\S+)", str(health.get("tag_name") or health.get("apiServerTagName")))
    return Server(
        host=host,
        namespace=namespace if health.get("multi_user") else None,
        release=found[1] if found else None,
        api=api,
    )


def _host(given: str | None) -> str:
    """Return the server's address without a trailing slash.

    Raises:
        InputError: there is none, or none to which a token may be sent.
    """
    # The last variable is kfp's own.
    host = given or os.environ.get(HOST_VARIABLE) or os.environ.get("KF_PIPELINES_ENDPOINT")
    if not host and "KUBERNETES_SERVICE_HOST" in os.environ:
        host = _IN_CLUSTER
    if not host:
        raise InputError(f"Which server? Name Kubeflow Pipelines' address with --host or {HOST_VARIABLE}.")
    address = host if "://" in host else f"https://{host}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise InputError("The server's address is not understood; write it as https://kubeflow.example.com/pipeline.")
    if parts.username or parts.password:
        raise InputError(
            "The server's address holds a user or password, which every message would show; remove it, and give a "
            f"token with --token-file or {TOKEN_VARIABLE}."
        )
    return address.partition("#")[0].rstrip("/")


def _client(host: str, token_file: Path | None, ca: Path | None) -> Client:
    """Return KFP's own client, which supports its authentication methods and saved contexts."""
    credentials, token = _credentials(token_file)
    cookie = os.environ.get(COOKIE_VARIABLE)
    if (credentials or token or cookie) and not _is_private(host):
        raise InputError(
            f"{host} is not encrypted, and everybody on the way could read the credentials that are sent there; use "
            "https://."
        )
    named = str(ca) if ca else os.environ.get(CA_VARIABLE) or os.environ.get("SSL_CERT_FILE")
    if named and not Path(named).is_file():
        raise InputError(f"There is no certificate file {named}; correct --ca or {CA_VARIABLE}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return _Client(
                host=host, existing_token=token, credentials=credentials, cookies=cookie, ssl_ca_cert=named or None
            )
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(
                f"kfp's context {Client._LOCAL_KFP_CONTEXT} cannot be read; correct or remove it."
            ) from None


class _Client(Client):
    """KFP's client without its initial requests to the server."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> kfp_server_api.V2beta1GetHealthzResponse:
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)


def _credentials(token_file: Path | None) -> tuple[ServiceAccountTokenVolumeCredentials | None, str | None]:
    """Return a reader that reads the token for each request, because a file may be renewed; or the token itself."""
    if token_file:
        try:
            empty = not token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InputError(f"The token file {token_file} cannot be read ({reason}); correct --token-file.") from None
        if empty:
            raise InputError(f"The token file {token_file} is empty; write the token into it.")
        return ServiceAccountTokenVolumeCredentials(str(token_file)), None
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return None, token
    mounted = Path(os.environ.get(_POD_TOKEN_VARIABLE) or _POD_TOKEN)
    if mounted.is_file():
        return ServiceAccountTokenVolumeCredentials(str(mounted)), None
    return None, None


def _is_private(host: str) -> bool:
    """Return whether requests to `host` are encrypted, or stay on this machine or in this cluster."""
    parts = urlsplit(host)
    name = parts.hostname or ""
    inside = name in ("localhost", "::1") or name.startswith("127.") or name.endswith((".svc", ".svc.cluster.local"))
    return parts.scheme == "https" or inside


def _pod_namespace() -> str | None:
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else None
