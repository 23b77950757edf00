import threading
import time

import mlflow
import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from packaging.version import Version

from headstart.errors import HeadstartError
from headstart.tracking.metric_queue import MetricQueue
from headstart.tracking.runs import experiment_named

NAN_TWICE = pytest.mark.skipif(
    Version(mlflow.__version__) < Version("3.16"), reason="an older MLflow refuses the same NaN twice"
)


class Server:
    """Takes metrics when it is `open`; refuses the next `failures` requests."""

    def __init__(self, *, failures: int = 0) -> None:
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.failures = failures
        self.requests: list[list[int]] = []

    def log_batch(self, run_id, metrics):
        self.asked.set()
        assert self.open.wait(timeout=60)
        if self.failures:
            self.failures -= 1
            raise MlflowException("away")
        self.requests.append([metric.step for metric in metrics])


def epoch(step: int) -> list[Metric]:
    return [Metric("train/loss", 1 / step, 0, step)]


def test_training_goes_on_while_the_server_is_slow_and_what_piles_up_goes_in_one_request():
    server = Server()
    server.open.clear()
    queue = MetricQueue(server, "run")
    queue.put(epoch(1))
    assert server.asked.wait(timeout=60)
    for step in (2, 3, 4):
        queue.put(epoch(step))
    assert server.requests == []
    server.open.set()
    queue.flush()
    assert server.requests == [[1], [2, 3, 4]]


def test_what_a_server_that_was_away_did_not_take_is_sent_again():
    server = Server(failures=1)
    queue = MetricQueue(server, "run")
    queue.put(epoch(1))
    queue.put(epoch(2))
    queue.flush()
    assert [step for request in server.requests for step in request] == [1, 2]


def test_a_flush_that_cannot_write_says_so_and_the_next_one_loses_nothing():
    server = Server(failures=1000)
    queue = MetricQueue(server, "run")
    queue.put(epoch(1))
    with pytest.raises(HeadstartError, match="away"):
        queue.flush()
    server.failures = 0
    queue.flush()
    assert server.requests == [[1]]


def test_more_than_mlflow_takes_at_once_goes_in_several_requests():
    server = Server()
    queue = MetricQueue(server, "run")
    queue.put(Metric("train/loss", 0.0, 0, step) for step in range(2500))
    queue.flush()
    assert [len(request) for request in server.requests] == [1000, 1000, 500]


@pytest.mark.parametrize("second", [0.25, pytest.param(float("nan"), marks=NAN_TWICE)])
def test_metrics_that_were_written_and_are_sent_again_are_there_once(second, client):
    run = client.create_run(experiment_named(client, "pets")).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric("train/loss", value, now, 1) for value in (0.5, second)]
    for _ in range(2):
        queue = MetricQueue(client, run)
        queue.put(metrics)
        queue.flush()
    assert len(client.get_metric_history(run, "train/loss")) == 2


def test_several_threads_may_write_and_flush_at_once():
    server = Server()
    queue = MetricQueue(server, "run")

    def write(first: int) -> None:
        for step in range(first, first + 100):
            queue.put(epoch(step))
            queue.flush()

    threads = [threading.Thread(target=write, args=(first,)) for first in (1, 101, 201)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(step for request in server.requests for step in request) == list(range(1, 301))
