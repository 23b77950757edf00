"""Submission of a job to a server: package, pipeline version, experiment and run."""

import functools
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api
from kfp_server_api import V2beta1Pipeline as Pipeline
from kfp_server_api import V2beta1PipelineVersion as PipelineVersion
from kfp_server_api import V2beta1Run as Run

from headstart.credentials import without_password
from headstart.errors import HeadstartError, InputError
from headstart.version import CODE_VARIABLE
from headstart_pipelines.catalog import Job, compile_pipeline
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.listing import found_or_made, named
from headstart_pipelines.cluster.runs import find_experiments
from headstart_pipelines.cluster.transport import UnansweredError
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import Profile

# Digits of the package's digest in a version's name.
_DIGITS = 16
# The server's MLflow plugin may take a minute, and one more for a second attempt, before the server answers.
_CREATION_SECONDS = 150.0
# Earlier releases refuse unknown fields.
_RELEASE_WITH_PLUGINS = (2, 17)


class MaybeStartedError(HeadstartError):
    """The server did not answer whether it has started a run."""


@dataclass(frozen=True)
class Package:
    """A compiled pipeline. `version` is a name derived from its content; `service_account` is the Kubernetes service
    account of its runs, None for the server's default."""

    pipeline: str
    version: str
    text: str
    service_account: str | None = None


@dataclass(frozen=True)
class Submission:
    """A run that was started. `mlflow_page` is None if MLflow's address is unknown here."""

    run: str
    run_id: str
    experiment: str
    pipeline: str
    version: str
    uploaded: bool
    page: str
    mlflow_page: str | None
    mlflow_problem: str | None


def build_package(
    pipeline: str, *, image: str | None, profile: Profile | None, unfingerprinted: frozenset[str], allow_tag: bool
) -> Package:
    """Compile a pipeline for the cluster.

    Raises:
        InputError: no image is named, or a guard refuses the compiled pipeline.
    """
    chosen = image or (profile.image if profile else None)
    if not chosen:
        raise InputError(
            "Which image? Name it with --image NAME@sha256:…, which `make image` prints, or as image in the profile."
        )
    placement = Placement(
        image=chosen,
        # The image holds the code; its digest makes the code part of the cache's key.
        environment={CODE_VARIABLE: chosen.partition("@")[2] or chosen},
        profile=profile,
        unfingerprinted=unfingerprinted,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "package.yaml")
        compile_pipeline(pipeline, file, placement, allow_tag=allow_tag)
        text = file.read_text(encoding="utf-8")
    name = f"headstart-{pipeline}"
    # Includes the pipeline's name, because some servers require version names that are unique among all pipelines.
    version = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
    return Package(name, version, text, profile.service_account if profile else None)


def upload(server: Server, package: Package) -> tuple[PipelineVersion, bool]:
    """Return the package's version on the server, and whether it was uploaded now; an existing version is reused.

    On a multi-user server its pipeline belongs to the namespace.
    """
    service = server.pipelines
    pipeline, _ = found_or_made(
        lambda: named(service.pipeline_service_list_pipelines, "pipelines", package.pipeline, **server.scope),
        lambda: service.pipeline_service_create_pipeline(
            Pipeline(display_name=package.pipeline, namespace=server.namespace, description="Submitted by headstart.")
        ),
    )
    return found_or_made(
        lambda: named(
            service.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            package.version,
            pipeline_id=pipeline.pipeline_id,
        ),
        lambda: _upload(server, pipeline.pipeline_id, package),
    )


def _upload(server: Server, pipeline_id: str, package: Package) -> PipelineVersion:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{package.version}.yaml")
        file.write_text(package.text, encoding="utf-8")
        return server.uploads.upload_pipeline_version(str(file), name=package.version, pipelineid=pipeline_id)


def work(server: Server, job: Job, package: Package, version: PipelineVersion) -> dict[str, Any]:
    """Return the fields that runs and schedules share: experiment, uploaded package, parameters, service account."""
    experiment, _ = found_or_made(
        lambda: find_experiments(server, job.experiment),
        lambda: server.experiments.experiment_service_create_experiment(
            kfp_server_api.V2beta1Experiment(display_name=job.experiment, namespace=server.namespace)
        ),
    )
    return {
        "experiment_id": experiment.experiment_id,
        "pipeline_version_reference": kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
        ),
        "runtime_config": kfp_server_api.V2beta1RuntimeConfig(parameters=dict(job.parameters)),
        "service_account": package.service_account,
    }


def _create_run(server: Server, body: Run, plugin: Mapping[str, Any]) -> Run:
    """Start a run on the server, with `plugin` as the input of its MLflow plugin.

    A server of a release before plugins refuses that input; one without the MLflow plugin ignores it. Whether the
    plugin is installed is known only from the answer.
    """
    create = functools.partial(server.runs.run_service_create_run, _request_timeout=_CREATION_SECONDS)
    release = tuple(map(int, server.release.split(".")[:2])) if server.release else None
    if release and release < _RELEASE_WITH_PLUGINS:
        return create(body)
    body.plugins_input = {"mlflow": plugin}
    try:
        return create(body)
    except InputError as refusal:
        if release or "plugins_input" not in str(refusal):
            raise
        body.plugins_input = None
        return create(body)


def submit(
    server: Server, job: Job, package: Package, profile: Profile | None, *, name: str | None = None
) -> Submission:
    """Upload the package unless the server has it, and start a run: called `name`, or after the experiment and the
    time.

    Raises:
        MaybeStartedError: the server did not answer.
    """
    version, is_new = upload(server, package)
    name = name or f"{job.experiment}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"
    body = Run(display_name=name, **work(server, job, package, version))
    # Without input the plugin would run with the API server's own settings, which are another cluster's.
    plugin = {"experiment_name": job.experiment} if profile and profile.mlflow_plugin else {"disabled": True}
    try:
        run = _create_run(server, body, plugin)
    except UnansweredError as error:
        raise MaybeStartedError(
            f"{error} The run {name} may have been started all the same: `headstart runs --experiment "
            f"{job.experiment}` says so."
        ) from None
    page, problem = _mlflow(run, profile)
    return Submission(
        run=name,
        run_id=run.run_id,
        experiment=job.experiment,
        pipeline=package.pipeline,
        version=package.version,
        uploaded=is_new,
        page=server.page(run.run_id),
        mlflow_page=page,
        mlflow_problem=problem,
    )


def _mlflow(run: Run, profile: Profile | None) -> tuple[str | None, str | None]:
    """Return MLflow's page of the run if the plugin has opened one, else its server's address; and the plugin's error,
    if any."""
    output = (run.plugins_output or {}).get("mlflow")
    if output and output.entries and "run_url" in output.entries:
        return str(output.entries["run_url"].value), None
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (
        profile.environment.values.get("MLFLOW_TRACKING_URI", "") if profile else ""
    )
    page = without_password(uri) if uri.startswith(("http://", "https://")) else None
    problem = output.state_message if output and output.state == "PLUGIN_FAILED" else None
    return page, problem
