"""HTTP server of one model: requests and answers as of `mlflow models serve`, in a fraction of its time.

    POST /invocations   samples in, one record for each out; the forms are in serving.py
    GET /ping, /health  200 once the model is loaded
    GET /version        MLflow's, as its own server has it
    GET /metrics        Prometheus: requests by status, their seconds, samples of a batch, samples that wait

Samples that are files in JSON are parsed and decoded here; every other form is left to MLflow's own parser. Memory is
bounded: by the size of a request, by that of all that are being received, read and decoded, and by the samples that
wait for the model. What exceeds it is refused with status 413 or 429.
"""

import asyncio
import json
import logging
import math
import signal
import socket
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import mlflow
import numpy as np
import prometheus_client as prometheus
import uvicorn
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from headstart.errors import HeadstartError, InputError
from headstart.metrics.task import SINGLE_LABEL
from headstart.models.bundle import ModelBundle, NotFinite
from headstart.models.prediction import answers, probability_columns
from headstart.tracking import serving
from headstart.tracking.logged_model import save_pyfunc
from headstart.tracking.micro_batches import MicroBatches, Predict
from headstart.tracking.request import Busy, Refusal, admitted

_MIB = 2**20
_MOST_BYTES = 32 * _MIB
_MOST_BYTES_OF_ALL = 256 * _MIB
# Time for a client to send its request, and for what is being answered when the server is told to end.
_RECEIVE_SECONDS, _END_SECONDS = 60, 30
_CONNECTIONS = 512
_READERS = 4
# Of networks with fewer weights one thread answers sooner than several that wait for each other.
_SMALL = 5_000_000
_JSON = "application/json"

log = logging.getLogger(__name__)


def serve(bundle: ModelBundle, *, host: str, port: int, ready: Callable[[str], None], threads: int) -> None:
    """Serve the model until SIGTERM or SIGINT; then finish what is being answered.

    Args:
        port: 0 for a free one.
        ready: is told the server's address once the model answers.
        threads: of a large network.

    Raises:
        InputError: the address is not to be had, or the model has no classes.
    """
    bundle.require_head()
    with _bound(host, port) as listening:
        app = application(bundle, predictor(bundle, threads=threads))
        # httptools parses requests in C; the access log would cost as much as the answer.
        config = uvicorn.Config(
            app,
            http="httptools",
            access_log=False,
            log_level="warning",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_END_SECONDS,
        )
        # uvicorn ends gracefully and then raises the signal anew, which would make a good end look like a crash.
        signal.signal(signal.SIGTERM, lambda *_: None)
        address = f"[{host}]" if ":" in host else host
        ready(f"http://{address}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])


def predictor(bundle: ModelBundle, *, threads: int) -> Predict:
    """The model as a function of samples: by ONNX Runtime where the extra `onnx` is installed and the model can be
    exported, else by PyTorch."""
    import torch

    weights = sum(each.numel() for each in bundle.network.parameters())
    threads = threads if weights > _SMALL else 1
    torch.set_num_threads(threads)
    try:
        from headstart.models.onnx import runtime

        run = runtime(bundle, threads=threads)
    except HeadstartError as reason:
        log.warning("The model runs on PyTorch, not on ONNX Runtime: %s", reason)
        return bundle.predict_outputs
    return run


def application(bundle: ModelBundle, predict: Predict) -> Starlette:
    """The server's ASGI application."""
    model = _Model(bundle, predict)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        model.close()

    async def alive(request: Request) -> Response:
        return Response("\n", media_type=_JSON)

    async def version(request: Request) -> Response:
        return Response(mlflow.__version__, media_type=_JSON)

    async def metrics(request: Request) -> Response:
        content = prometheus.generate_latest(model.figures.registry)
        return Response(content, headers={"content-type": prometheus.CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/invocations", model.answer, methods=["POST"]),
            Route("/ping", alive),
            Route("/health", alive),
            Route("/version", version),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
    )


class _Figures:
    """The figures that Prometheus reads."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter("headstart_requests", "Requests by status.", ["status"], registry=registry)
        seconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
        self.seconds = prometheus.Histogram(
            "headstart_request_seconds", "Seconds from a request to its answer.", buckets=seconds, registry=registry
        )
        self.samples = prometheus.Histogram(
            "headstart_batch_samples", "Samples of a batch.", buckets=[1, 2, 4, 8, 16, 32], registry=registry
        )
        self.waiting = prometheus.Gauge("headstart_waiting_samples", "Samples that wait.", registry=registry)


@dataclass
class _Received:
    """Bytes of requests that are being received."""

    bytes: int = 0


class _Model:
    """Answers requests about one model."""

    def __init__(self, bundle: ModelBundle, predict: Predict) -> None:
        self.figures = _Figures()
        self._bundle = bundle
        self._columns = probability_columns(bundle.classes) if bundle.task == SINGLE_LABEL else []
        self._batches = MicroBatches(predict, self.figures.samples.observe)
        self.figures.waiting.set_function(lambda: self._batches.waiting)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._received = _Received()
        self._by_mlflow = _loaded_by_mlflow(bundle)
        self._schema = self._by_mlflow.metadata.get_input_schema()

    def close(self) -> None:
        """Answer what waits, and end."""
        self._batches.close()
        self._readers.shutdown()

    async def answer(self, request: Request) -> Response:
        """The endpoint /invocations."""
        start = perf_counter()
        response = await self._answered(request)
        self.figures.seconds.observe(perf_counter() - start)
        self.figures.requests.labels(str(response.status_code)).inc()
        return response

    async def _answered(self, request: Request) -> Response:
        held = _Received()
        try:
            async with asyncio.timeout(_RECEIVE_SECONDS):
                data = await self._body(request, held)
            kind = request.headers.get("content-type", "")
            found = await asyncio.get_running_loop().run_in_executor(self._readers, self._read, data, kind)
            if isinstance(found, scoring_server.InvocationsResponse):
                return Response(found.response, found.status, media_type=found.mimetype)
            return Response(self._records(await asyncio.wrap_future(self._batches.submit(found))), media_type=_JSON)
        except TimeoutError:
            return _said(408, f"The request did not arrive within {_RECEIVE_SECONDS} seconds; send it again.")
        except ClientDisconnect:
            return _said(400, "The client has gone.")
        except _TooLarge:
            return _said(413, f"The request has more than {_MOST_BYTES // _MIB} MiB; send fewer samples at a time.")
        except MlflowException as refusal:
            return Response(refusal.serialize_as_json(), refusal.get_http_status_code(), media_type=_JSON)
        except HeadstartError as error:
            return _said(500, str(error))
        except Exception:
            log.exception("A request could not be answered.")
            return _said(500, "The request could not be answered; the server's log says why.")
        finally:
            self._received.bytes -= held.bytes

    async def _body(self, request: Request, held: _Received) -> bytes:
        """The request's content, whose size `held` counts as it arrives.

        Raises:
            _TooLarge: it is larger than a request may be.
            Busy: all requests together are.
        """
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > _MOST_BYTES:
            raise _TooLarge
        parts = []
        async for part in request.stream():
            held.bytes += len(part)
            self._received.bytes += len(part)
            if held.bytes > _MOST_BYTES:
                raise _TooLarge
            if self._received.bytes > _MOST_BYTES_OF_ALL:
                raise Busy
            parts.append(part)
        return b"".join(parts)

    def _read(self, data: bytes, content_type: str) -> "Sequence[np.ndarray] | scoring_server.InvocationsResponse":
        """The request's samples, if they are files in JSON; else MLflow's answer to it."""
        if content_type.replace(" ", "").lower() in (_JSON, f"{_JSON};charset=utf-8"):
            with admitted(data, _JSON):
                if files := _files(data, self._bundle.modality):
                    try:
                        self._bundle.require_head()
                        return serving.decoded(self._bundle, files)
                    except InputError as reason:
                        raise Refusal(str(reason)) from None
        return scoring_server.invocations(data, content_type, self._by_mlflow, self._schema)

    def _records(self, outputs: np.ndarray) -> bytes:
        """The answer: one record for each sample."""
        if not self._columns:
            table = answers(self._bundle, outputs)
            # A margin that nothing was held out for is no number.
            if not np.isfinite(outputs[:, 0]).all():
                raise NotFinite
            # NaN, of a margin that nothing was held out for, becomes null.
            return f'{{"predictions": {table.to_json(orient="records", double_precision=15)}}}'.encode()
        probabilities = outputs
        rows = probabilities.astype(np.float64).tolist()
        if not all(map(math.isfinite, (share for row in rows for share in row))):
            raise NotFinite
        records = [
            {
                "label": self._bundle.classes[best],
                "probability": row[best],
                **dict(zip(self._columns, row, strict=True)),
            }
            for row, best in zip(rows, probabilities.argmax(axis=1).tolist(), strict=True)
        ]
        return json.dumps({"predictions": records}).encode()


class _TooLarge(Exception):  # noqa: N818 - a state of a request
    """A request of more bytes than one may have."""


def _said(status: int, message: str) -> Response:
    return Response(json.dumps({"error_code": status, "message": message}), status, media_type=_JSON)


def _files(data: bytes, name: str) -> list[str] | None:
    """The base64 texts of a request in JSON, in any of MLflow's forms; None for one that does not consist of them."""
    try:
        request = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or len(request) != 1:
        return None
    ((form, values),) = request.items()
    if form == "dataframe_split":
        is_table = isinstance(values, dict) and values.keys() == {"columns", "data"} and values["columns"] == [name]
        values = values["data"] if is_table else None
        values = [row[0] if isinstance(row, list) and len(row) == 1 else None for row in values or ()]
    elif form == "inputs" and isinstance(values, dict) and values.keys() == {name}:
        values = values[name]
    elif form in ("dataframe_records", "instances") and isinstance(values, list):
        values = [each[name] if isinstance(each, dict) and each.keys() == {name} else each for each in values]
        if form == "dataframe_records" and any(not isinstance(each, dict) for each in request[form]):
            return None
    elif form != "inputs":
        return None
    return values if isinstance(values, list) and all(isinstance(each, str) for each in values) else None


def _loaded_by_mlflow(bundle: ModelBundle) -> Any:
    """The model as MLflow's parser knows it; it shares the bundle's weights."""
    with tempfile.TemporaryDirectory(prefix="headstart-") as place, warnings.catch_warnings():
        folder = Path(place)
        bundle.save(folder / "bundle")
        # MLflow would have an example of a request, and would run the model on it.
        warnings.simplefilter("ignore", UserWarning)
        save_pyfunc(folder / "model", bundle, {"bundle": folder / "bundle"}, with_example=False)
        loaded = mlflow.pyfunc.load_model(f"{place}/model")
    loaded.unwrap_python_model().bundle = bundle
    return loaded


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        InputError: it is another's, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port} is not to be had ({reason}); name another.") from error
