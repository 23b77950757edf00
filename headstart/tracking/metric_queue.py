"""Queue of metrics, written to MLflow by a thread so that training does not wait for the server."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from headstart.tracking.client import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# MLflow's limit for one request.
_BATCH = 1000


class MetricQueue:
    """The metrics of one run, in order. Metrics that arrive during a request are sent together in the next one.

    MLflow's own asynchronous logging sends each call separately and drops what it could not send: without a server,
    each epoch costs minutes of retries, and the process waits for all of them at its end. Here a metric stays in the
    queue until the server has stored it, and at most one request waits behind the current one. A repeated request adds
    nothing, because MLflow identifies a metric by its run, name, time, step and value.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._waiting: list[Metric] = []
        self._due = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    def put(self, metrics: Iterable["Metric"]) -> None:
        """Add metrics and return at once. Metrics that could not be written before are sent again with them."""
        with self._lock:
            self._waiting.extend(metrics)
            if not self._due:
                self._due = True
                self._thread.submit(self._write)

    def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            HeadstartError: the server refused a metric, or was unreachable for longer than MLflow's client retries.
        """
        if self._waiting:
            with explained():
                self._thread.submit(self._write).result()

    def _write(self) -> None:
        with self._lock:
            self._due = False
        while batch := self._waiting[:_BATCH]:
            self._client.log_batch(self._run_id, metrics=batch)
            with self._lock:
                del self._waiting[: len(batch)]
