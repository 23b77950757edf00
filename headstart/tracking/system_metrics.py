"""What a step uses of its machine, in its MLflow run: CPU, memory, disk, network, GPU, as MLflow measures them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headstart.tracking.runs import Run

# A step of a few seconds gets its points and one of a day about 1500: the time between two of them grows.
_FIRST_SECONDS = 2.0
_GROWTH = 1.2
_LAST_SECONDS = 60.0

log = logging.getLogger(__name__)


@contextmanager
def system_metrics(run: Run) -> Iterator[None]:
    """Records the machine's use as metrics `system/…` of `run` while the body runs.

    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false turns it off; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is the first time
    between two points, in seconds. A machine that cannot be measured costs a line in the log, never the step.
    """
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING as ENABLED

    if ENABLED.is_set() and not ENABLED.get():
        yield
        return
    monitor = _started(run)
    try:
        yield
    finally:
        if monitor:
            monitor.finish()


def _started(run: Run) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        def publish_metrics(self, metrics: dict[str, float]) -> None:
            super().publish_metrics(metrics)
            grown = min(_GROWTH * self.sampling_interval, _LAST_SECONDS)
            self.sampling_interval = max(self.sampling_interval, grown)

    try:
        monitor = Monitor(run.id, sampling_interval=_FIRST_SECONDS, tracking_uri=run.client.tracking_uri)
        monitor.start()
    except Exception as error:
        log.warning("The use of this machine is not recorded: %s", error)
        return None
    return monitor
