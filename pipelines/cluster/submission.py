"""Submission of a recipe to a server: it builds the package and makes pipeline version, experiment and run."""

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
from headstart.recipe.recipe import Recipe
from headstart.version import CODE_VARIABLE
from headstart_pipelines.catalog import compile_pipeline, parameters
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.listing import found_or_made, named
from headstart_pipelines.cluster.runs import find_experiments
from headstart_pipelines.cluster.transport import UnansweredError
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import Profile

# How many digits of the package's digest a version's name carries.
_DIGITS = 16
# Before the server answers, its MLflow plugin has a minute for its work and one for trying again.
_CREATION_SECONDS = 150.0
# A server of an earlier release refuses fields that it does not know.
_RELEASE_WITH_PLUGINS = (2, 17)


@dataclass(frozen=True)
class Package:
    """A compiled pipeline. `version` names it by its content; `service_account` is what its runs are to Kubernetes,
    None for the server's default."""

    pipeline: str
    version: str
    text: str
    service_account: str | None = None


@dataclass(frozen=True)
class Submission:
    """A run that was started. `mlflow_page` is None where nothing here says where MLflow is."""

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
    recipe: Recipe, *, image: str | None, profile: Profile | None, unfingerprinted: frozenset[str], allow_tag: bool
) -> Package:
    """Compiles a resolved recipe's pipeline for the cluster.

    Raises:
        InputError: no image is named, or a guard refuses what was compiled.
    """
    chosen = image or (profile.image if profile else None)
    if not chosen:
        raise InputError(
            "Which image? Name it with --image NAME@sha256:…, which `make image` prints, or as image in the profile."
        )
    placement = Placement(
        image=chosen,
        # The code that runs is what the image holds: the digest makes it a part of the cache's key.
        environment={CODE_VARIABLE: chosen.partition("@")[2] or chosen},
        profile=profile,
        unfingerprinted=unfingerprinted,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "package.yaml")
        compile_pipeline(recipe.pipeline, file, placement, allow_tag=allow_tag)
        text = file.read_text(encoding="utf-8")
    name = f"headstart-{recipe.pipeline}"
    # With the pipeline's name in it, as some servers want versions' names unique among all pipelines.
    version = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
    return Package(name, version, text, profile.service_account if profile else None)


def upload(server: Server, package: Package) -> tuple[PipelineVersion, bool]:
    """The package's version on the server, and whether it was uploaded now; a version that is there is left alone.

    Its pipeline is one of the namespace's own where the server knows users.
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


def work(server: Server, recipe: Recipe, package: Package, version: PipelineVersion) -> dict[str, Any]:
    """The fields that a run and a schedule share: experiment, uploaded package, parameters, service account."""
    experiment, _ = found_or_made(
        lambda: find_experiments(server, recipe.name),
        lambda: server.experiments.experiment_service_create_experiment(
            kfp_server_api.V2beta1Experiment(display_name=recipe.name, namespace=server.namespace)
        ),
    )
    return {
        "experiment_id": experiment.experiment_id,
        "pipeline_version_reference": kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
        ),
        "runtime_config": kfp_server_api.V2beta1RuntimeConfig(parameters=parameters(recipe)),
        "service_account": package.service_account,
    }


def _create_run(server: Server, body: Run, plugin: Mapping[str, Any]) -> Run:
    """Start a run on the server, with `plugin` as the input of its MLflow plugin.

    A server of a release before plugins refuses what it would be told; one that has the release and no plugin keeps it
    and does nothing with it. Whether it has the plugin, no server says before its answer.
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


def submit(server: Server, recipe: Recipe, package: Package, profile: Profile | None) -> Submission:
    """Uploads what the server does not have, and starts a run of the resolved recipe."""
    version, is_new = upload(server, package)
    name = f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"
    body = Run(display_name=name, **work(server, recipe, package, version))
    # Told nothing, the plugin would work all the same, and the API server's own settings for it are of another cluster.
    plugin = {"experiment_name": recipe.name} if profile and profile.mlflow_plugin else {"disabled": True}
    try:
        run = _create_run(server, body, plugin)
    except UnansweredError as error:
        raise HeadstartError(
            f"{error} The run {name} may have been started all the same: `headstart runs --experiment {recipe.name}` "
            "says so."
        ) from None
    page, problem = _mlflow(run, profile)
    return Submission(
        run=name,
        run_id=run.run_id,
        experiment=recipe.name,
        pipeline=package.pipeline,
        version=package.version,
        uploaded=is_new,
        page=server.page(run.run_id),
        mlflow_page=page,
        mlflow_problem=problem,
    )


def _mlflow(run: Run, profile: Profile | None) -> tuple[str | None, str | None]:
    """MLflow's page on the run where the plugin has opened one, else its server's; and what kept the plugin from it."""
    output = (run.plugins_output or {}).get("mlflow")
    if output and output.entries and "run_url" in output.entries:
        return str(output.entries["run_url"].value), None
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (
        profile.environment.values.get("MLFLOW_TRACKING_URI", "") if profile else ""
    )
    page = without_password(uri) if uri.startswith(("http://", "https://")) else None
    problem = output.state_message if output and output.state == "PLUGIN_FAILED" else None
    return page, problem
