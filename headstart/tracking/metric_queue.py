"""Metrics on their way to MLflow, written by a thread so that training does not wait for the server."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from headstart.tracking.client import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# MLflow's own limit to one request.
_BATCH = 1000


class MetricQueue:
    """The metrics of one run, in order. What piles up while a request is under way goes with the next one.

    MLflow's own asynchronous logging sends every call by itself and drops what it could not send: while a server is
    away, each epoch then costs minutes of retries, and the end of the process waits for all of them. Here nothing
    leaves the queue before the server has it, and at most one request waits behind the one that is under way. A
    request that is repeated adds nothing: MLflow knows a metric by its run, name, time, step and value.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._waiting: list[Metric] = []
        self._due = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    def put(self, metrics: Iterable["Metric"]) -> None:
        """Adds metrics and returns at once. What could not be written before is tried again with them."""
        with self._lock:
            self._waiting.extend(metrics)
            if not self._due:
                self._due = True
                self._thread.submit(self._write)

    def flush(self) -> None:
        """Waits until everything is written.

        Raises:
            HeadstartError: the server refused a metric, or stayed away for longer than MLflow's client tries.
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
