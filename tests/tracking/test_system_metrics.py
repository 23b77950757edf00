import threading
import time

import psutil
import pytest
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from headstart.tracking import system_metrics as module
from headstart.tracking.system_metrics import system_metrics


def monitoring() -> bool:
    return any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())


def test_what_a_step_uses_of_its_machine_is_in_its_run_and_nothing_goes_on_afterwards(client, new_run, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_SECONDS", 0.01)
    run = new_run()
    deadline = time.monotonic() + 60
    with system_metrics(run):
        while not client.get_run(run.id).data.metrics:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not monitoring()
    found = client.get_run(run.id).data.metrics
    for name in (
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "disk_usage_percentage",
        "network_receive_megabytes",
    ):
        assert f"system/{name}" in found


def test_it_can_be_turned_off(client, new_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with system_metrics(new_run()):
        assert not monitoring()


def test_a_step_that_fails_leaves_no_thread_and_its_error_is_not_swallowed(client, new_run):
    with pytest.raises(RuntimeError, match="no luck"), system_metrics(new_run()):
        raise RuntimeError("no luck")
    assert not monitoring()


def test_a_machine_that_cannot_be_measured_costs_a_line_in_the_log_and_not_the_step(
    client, new_run, monkeypatch, caplog
):
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    with system_metrics(new_run()):
        pass
    assert "The use of this machine is not recorded" in caplog.text


def test_a_step_of_seconds_has_a_point_and_one_of_a_day_not_thousands(client, new_run, monkeypatch):
    monkeypatch.setattr(SystemMetricsMonitor, "start", lambda self: None)
    monkeypatch.setattr(SystemMetricsMonitor, "publish_metrics", lambda self, metrics: None)
    monitor = module._started(new_run())
    elapsed, points = monitor.sampling_interval, 1
    assert elapsed < 3
    while elapsed < 24 * 3600:
        monitor.publish_metrics({})
        elapsed += monitor.sampling_interval
        points += 1
    assert points < 2000
