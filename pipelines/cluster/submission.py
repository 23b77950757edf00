"""A recipe becomes a run on a server: package, pipeline version, experiment, run."""

import functools
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
from headstart_pipelines.cluster.runs import equals, find_experiment, paged
from headstart_pipelines.cluster.transport import ConflictError, UnansweredError
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import Profile

# How many digits of the package's digest a version's name carries.
_DIGITS = 16
# Before the server answers, its MLflow plugin has a minute for its work and one for trying again.
_CREATION_SECONDS = 150.0


@dataclass(frozen=True)
class Package:
    """A compiled pipeline. `version` names it by its content; `service_account` is what its runs are to Kubernetes,
    None for the server's default."""

    pipeline: str
    version: str
    text: str
    service_account: str | None = None


@dataclass(frozen=True)
class Version:
    """A pipeline version on a server; `is_new` where it was uploaded just now."""

    pipeline_id: str
    version_id: str
    is_new: bool


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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


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


def upload(server: Server, package: Package) -> Version:
    """The package's version on the server, uploaded unless it is there."""
    pipeline = _pipeline(server, package.pipeline)
    if found := _version(server, pipeline, package.version):
        return Version(pipeline.pipeline_id, found.pipeline_version_id, is_new=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{package.version}.yaml")
        file.write_text(package.text, encoding="utf-8")
        try:
            made = server.uploads.upload_pipeline_version(
                str(file), name=package.version, pipelineid=pipeline.pipeline_id
            )
        except ConflictError:
            if found := _version(server, pipeline, package.version):
                return Version(pipeline.pipeline_id, found.pipeline_version_id, is_new=False)
            raise
    return Version(pipeline.pipeline_id, made.pipeline_version_id, is_new=True)


def _pipeline(server: Server, name: str) -> Pipeline:
    """The pipeline called `name`, made unless it is there; one of the namespace's own where the server knows users."""
    if found := _find_pipeline(server, name):
        return found
    try:
        return server.pipelines.pipeline_service_create_pipeline(
            Pipeline(display_name=name, namespace=server.namespace, description="Submitted by headstart.")
        )
    except ConflictError:
        if found := _find_pipeline(server, name):
            return found
        raise


def _find_pipeline(server: Server, name: str) -> Pipeline | None:
    options: dict[str, Any] = {"namespace": server.namespace} if server.namespace else {}
    listed = paged(
        server.pipelines.pipeline_service_list_pipelines, "pipelines", filter=equals("display_name", name), **options
    )
    return next((each for each in listed if each.display_name == name), None)


def _version(server: Server, pipeline: Pipeline, name: str) -> PipelineVersion | None:
    listed = paged(
        server.pipelines.pipeline_service_list_pipeline_versions, "pipeline_versions",
        pipeline_id=pipeline.pipeline_id, filter=equals("display_name", name),
    )  # fmt: skip
    return next((each for each in listed if each.display_name == name), None)


def experiment_id(server: Server, name: str) -> str:
    """The experiment called `name`, made unless it is there."""
    found = find_experiment(server, name)
    if found is None:
        try:
            found = server.experiments.experiment_service_create_experiment(
                kfp_server_api.V2beta1Experiment(display_name=name, namespace=server.namespace)
            )
        except ConflictError:
            found = find_experiment(server, name)
            if found is None:
                raise
    return str(found.experiment_id)


def work(server: Server, recipe: Recipe, package: Package, version: Version) -> dict[str, Any]:
    """What a run and a schedule have in common: the experiment, the uploaded package, its parameters, its account."""
    return {
        "experiment_id": experiment_id(server, recipe.name),
        "pipeline_version_reference": kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        "runtime_config": kfp_server_api.V2beta1RuntimeConfig(parameters=parameters(recipe)),
        "service_account": package.service_account,
    }


def _create_run(server: Server, body: Run, plugin: Mapping[str, Any]) -> Run:
    """Has the server start a run, and tells `plugin` to its MLflow plugin.

    A server of a release before plugins refuses what it would be told; one that has the release and no plugin keeps it
    and does nothing with it. Whether it has the plugin, no server says before its answer.
    """
    create = functools.partial(server.runs.run_service_create_run, _request_timeout=_CREATION_SECONDS)
    if server.takes_plugins_input is False:
        return create(body)
    body.plugins_input = {"mlflow": plugin}
    try:
        return create(body)
    except InputError as refusal:
        if server.takes_plugins_input or "plugins_input" not in str(refusal):
            raise
        body.plugins_input = None
        return create(body)


def submit(server: Server, recipe: Recipe, package: Package, profile: Profile | None) -> Submission:
    """Uploads what the server does not have, and starts a run of the resolved recipe."""
    version = upload(server, package)
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
        uploaded=version.is_new,
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
