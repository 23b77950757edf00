"""Monitoring of a registered model: new samples against those that its version was tested on, written to the record."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.judging.monitoring import TOLERANCE, Monitoring, Observed, monitor, observe, observe_kept, observe_split
from headstart.metrics.intervals import Interval
from headstart.tracking.client import explained
from headstart.tracking.mlflow_pages import version_page
from headstart.tracking.names import MODEL_DIGEST, NOTE, ROLE, SENTENCE
from headstart.tracking.registry import find_version
from headstart.tracking.runs import KFP_RUN_VARIABLE, experiment_named
from headstart.tracking.version_record import VersionRecord, read_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from headstart.judging.evidence import Evidence
    from headstart.models.bundle import ModelBundle

EXPERIMENT = "monitoring"
"""The experiment that holds a run for each look at a model."""


def monitor_version(
    client: "MlflowClient",
    uri: str,
    data: str,
    *,
    reference: Path | None = None,
    tolerance: float = TOLERANCE,
) -> Monitoring:
    """Compare the samples at `data` with those that the version `uri` was tested on, and log the result as a run of the
    experiment `monitoring`.

    Args:
        uri: models:/name@alias, models:/name/version or models:/name.
        data: a data reference; where it gives labels, the metric is measured, too.
        reference: the packed data set that the version was tested on; None for the features of its test samples that
            are kept with it, and for a version without them the data set at its recorded path.
        tolerance: how much better than chance a classifier may tell new samples from old ones.

    Raises:
        InputError: there is no such version, it has no evidence, its packed data set is gone, or the samples are not
            usable.
    """
    from headstart.models.bundle import ModelBundle
    from headstart.training.engine import move_to_training_device

    version, evidence = tested_version(client, uri)
    bundle = ModelBundle.load(version.bundle)
    move_to_training_device(bundle.network)
    new = observe(bundle, data)
    found = monitor(
        _tested_on(version, evidence, bundle, reference),
        new,
        bundle.classes,
        metric=evidence.metric,
        promised=_promised(evidence),
        tolerance=tolerance,
    )
    return replace(found, run_id=_record(client, version, data, found))


def tested_version(client: "MlflowClient", uri: str) -> tuple[VersionRecord, "Evidence"]:
    """The record of a version, and the evidence of its test.

    Raises:
        InputError: there is no such version, or it has no evidence.
    """
    version = read_version(client, find_version(client, uri))
    if version.evidence is None:
        raise InputError(
            f"models:/{version.name} has no evidence of a test that new samples could be compared with; run its recipe "
            "again."
        )
    return version, version.evidence


@explained()
def look_found(client: "MlflowClient", pipeline_run: str) -> tuple[str, str] | None:
    """The id of the run that records a look of a run on a cluster, and the state that it found: `as before`, `drifted`
    or `worse`; None if it recorded none."""
    experiment = experiment_named(client, EXPERIMENT)
    runs = client.search_runs([experiment], f"params.pipeline_run = '{pipeline_run}'", max_results=1)
    return (runs[0].info.run_id, runs[0].data.params["state"]) if runs else None


@explained()
def note_consequence(client: "MlflowClient", run_id: str, sentence: str) -> None:
    """Write what came of a look at a model to the page of its run."""
    seen = client.get_run(run_id).data.tags.get(SENTENCE, "")
    client.set_tag(run_id, NOTE, f"{seen}\n\n{sentence}".strip())


def _promised(evidence: "Evidence") -> Interval | None:
    ends = [evidence.figures.get(f"test/{evidence.metric}{end}") for end in ("", "_low", "_high")]
    value, low, high = ends
    return None if value is None or low is None or high is None else Interval(value, low, high)


def _tested_on(version: VersionRecord, evidence: "Evidence", bundle: "ModelBundle", reference: Path | None) -> Observed:
    from headstart.data.dataset import Dataset

    if reference is None and evidence.features is not None:
        return observe_kept(bundle, evidence.features, evidence.predictions.labels)
    place = reference or Path(evidence.dataset)
    if not (place / "manifest.json").is_file():
        raise InputError(
            f"The packed data set that models:/{version.name} was tested on is not at {place}; name where it is now "
            "with --reference, or run its recipe again: versions registered from now on keep what is compared."
        )
    dataset = Dataset.open(place)
    if dataset.digests.get("data_digest") != evidence.digests.get("data_digest"):
        raise InputError(f"{place} is not the data set that models:/{version.name} was tested on; name that one.")
    return observe_split(bundle, dataset.split("test"), dataset.classes)


def summary(found: Monitoring) -> dict[str, float]:
    """The figures of a comparison by their names in the record: auc, distance, samples, refused and, where the samples
    have labels, the metric; intervals as `_low` and `_high`."""
    intervals = {"auc": found.auc, **({found.metric: found.measured} if found.measured else {})}
    ends = {
        f"{name}{end}": value
        for name, each in intervals.items()
        for end, value in (("", each.value), ("_low", each.low), ("_high", each.high))
    }
    return {**ends, "distance": found.distance, "samples": found.samples, "refused": found.refused}


@explained()
def _record(client: "MlflowClient", version: VersionRecord, data: str, found: Monitoring) -> str:
    """Log the look as a run and return its id."""
    page = version_page(version.model, version.version)
    tags = {
        ROLE: "monitoring",
        MODEL_DIGEST: version.digest or "",
        SENTENCE: found.sentence,
        NOTE: f"{found.sentence}\n\nThe model: [{version.name}]({page})",
    }
    experiment = experiment_named(client, EXPERIMENT)
    run = client.create_run(experiment, run_name=f"{version.name} {found.state}", tags=tags)
    params = {"model": f"models:/{version.name}", "data": data, "state": found.state}
    # Of a run on a cluster. Not the tag that makes a parent, whose end would be that of the pipeline run.
    if pipeline_run := os.environ.get(KFP_RUN_VARIABLE):
        params["pipeline_run"] = pipeline_run
    for key, text in params.items():
        client.log_param(run.info.run_id, key, text)
    for key, value in summary(found).items():
        client.log_metric(run.info.run_id, f"monitor/{key}", value)
    client.log_dict(run.info.run_id, found.to_dict(), "monitoring.json")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)
