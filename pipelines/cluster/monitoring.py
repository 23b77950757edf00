"""Monitoring on a cluster: what is refused before anything is sent, and the job."""

import re
from collections.abc import Collection

from headstart.errors import InputError
from headstart.judging.monitoring import check_tolerance
from headstart.models.reference import REGISTRY
from headstart.tracking.client import connect
from headstart.tracking.monitoring import EXPERIMENT, tested_version
from headstart_pipelines.catalog import Job
from headstart_pipelines.resolve import is_record_reached, seen_by_pods


def monitor_job(model: str, data: str, mounts: Collection[str], *, tolerance: float, fail: bool) -> Job:
    """The comparison of new samples with the test samples of a registered version, as pods carry it out.

    Args:
        model: models:/name@alias, models:/name/version, or a name: its champion, else its latest version.
        data: s3://…, or a path on a volume.
        mounts: paths at which light steps see volumes.
        tolerance: as for `headstart.judging.monitoring.monitor`.
        fail: whether the run fails unless the samples are as before.

    Raises:
        InputError: no pod sees the data, or the version has nothing to compare them with, as far as the record is
            reached from here.
    """
    check_tolerance(tolerance)
    uri = model if model.startswith(REGISTRY) else f"{REGISTRY}{model}"
    if "://" in uri:
        raise InputError(f"{model} is no registered model; give models:/name@alias, models:/name/version or a name.")
    data = seen_by_pods(data, mounts, "aws s3 cp --recursive {path} s3://BUCKET/{name}")
    if is_record_reached():
        version, evidence = tested_version(connect(), uri)
        if evidence.features is None:
            raise InputError(
                f"models:/{version.name} keeps no features of its test samples, and no pod has its packed data set; "
                "run its recipe again, or monitor it on the machine where the data set is."
            )
    return Job(EXPERIMENT, "monitor", {"model": uri, "data": data, "tolerance": tolerance, "fail": fail})


def name_of(job: Job) -> str:
    """The name of a schedule for the job: `monitor-<model>`."""
    model = str(job.parameters["model"]).removeprefix(REGISTRY)
    return f"monitor-{re.split('[@/]', model)[0]}"
