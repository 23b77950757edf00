"""System metrics of a step in its MLflow run: CPU, memory, disk, network and GPU, measured by MLflow."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headstart.tracking.runs import Run

# The sampling interval grows, so that a step of seconds gets some points and one of a day about 1500.
_FIRST_SECONDS = 2.0
_GROWTH = 1.2
_LAST_SECONDS = 60.0

log = logging.getLogger(__name__)


@contextmanager
def system_metrics(run: Run) -> Iterator[None]:
    """Log the machine's use as metrics `system/…` of `run` while the body runs.

    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false turns it off; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is the first
    interval in seconds. If the machine cannot be measured, a warning is logged and the step continues.
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
