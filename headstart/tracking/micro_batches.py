"""Micro-batches: the samples of requests that wait at the same time go through the model together."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from headstart.tracking.request import Busy

Predict = Callable[[Any], np.ndarray]
"""From stored samples to probabilities (N, K)."""

# Activations of a large network take 10 MB and more for each sample.
BATCH = 32
# Decoded samples that may wait; more are refused until some are answered.
_MOST_WAITING = 1024

_Job = tuple[Sequence[Any], "Future[np.ndarray]"]


class MicroBatches:
    """One thread that runs a model on what waits, at most `BATCH` samples at a time; nothing waits for more to come.

    Args:
        predict: the model.
        ran: is told the number of samples of each batch.
    """

    def __init__(self, predict: Predict, ran: Callable[[int], None] = lambda count: None) -> None:
        self._predict, self._ran = predict, ran
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting, self._lock, self._closed = 0, threading.Lock(), False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of samples that are not answered yet."""
        return self._waiting

    def submit(self, samples: Sequence[Any]) -> "Future[np.ndarray]":
        """Return the future of the samples' probabilities (N, K).

        Raises:
            Busy: too many samples wait.
        """
        with self._lock:
            # One request alone may hold more than may wait: its size has limits of its own.
            if self._closed or (self._waiting and self._waiting + len(samples) > _MOST_WAITING):
                raise Busy
            self._waiting += len(samples)
            future: Future[np.ndarray] = Future()
            self._jobs.put((samples, future))
        return future

    def close(self) -> None:
        """Answer what waits, and end."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, ended = [first], False
            while sum(len(samples) for samples, _ in jobs) < BATCH:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if ended := job is None:
                    break
                jobs.append(job)
            self._run(jobs)
            if ended:
                return

    def _run(self, jobs: Sequence[_Job]) -> None:
        # Of a client that has gone, nothing is computed.
        wanted = [job for job in jobs if job[1].set_running_or_notify_cancel()]
        answers = self._answers([samples for samples, _ in wanted])
        # Before anyone is told, so that who has an answer finds nothing waiting for it.
        with self._lock:
            self._waiting -= sum(len(samples) for samples, _ in jobs)
        for (_, future), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _answers(self, wanted: Sequence[Sequence[Any]]) -> "list[np.ndarray | Exception]":
        """The probabilities of each request's samples, or why it has none."""
        try:
            found = self._in_batches([sample for samples in wanted for sample in samples])
            return list(np.split(found, np.cumsum([len(samples) for samples in wanted])[:-1])) if wanted else []
        except Exception as error:
            # One request's samples may be what the model cannot answer.
            return [self._answer(samples) for samples in wanted] if len(wanted) > 1 else [error]

    def _answer(self, samples: Sequence[Any]) -> "np.ndarray | Exception":
        try:
            return self._in_batches(samples)
        except Exception as error:
            return error

    def _in_batches(self, samples: Sequence[Any]) -> np.ndarray:
        if not samples:
            return np.empty((0, 0))
        parts = []
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            parts.append(self._predict(part))
            self._ran(len(part))
        return np.concatenate(parts)
