"""Local run of a recipe: kfp.local executes the same pipeline as a cluster."""

import contextlib
import os
import sys
import time
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.environment import environment, require_temporary_folder
from headstart.errors import HeadstartError
from headstart.judging.leaderboard import Leaderboard
from headstart.recipe.recipe import Recipe
from headstart.registry import added_packages, files_digest
from headstart.storage.digests import json_digest
from headstart.storage.local import write_text
from headstart.storage.state import STATE_VARIABLE
from headstart.tracking import database
from headstart.tracking.client import connect
from headstart.tracking.names import REUSED_STEPS
from headstart.tracking.run_outcome import read_outcome
from headstart.tracking.run_owner import end_abandoned, owner_tags
from headstart.tracking.runs import (
    INJECTED_VARIABLE,
    PARENT_VARIABLE,
    Run,
    end,
    end_with_steps,
    experiment_named,
    new_parent,
)
from headstart.tracking.store import artifacts, make_record
from headstart.training.progress import PROGRESS_VARIABLE
from headstart.version import CODE_VARIABLE
from headstart_pipelines import docker
from headstart_pipelines.catalog import PIPELINES, parameters
from headstart_pipelines.placement import SPIN_COUNT, Placement
from headstart_pipelines.processes import processes
from headstart_pipelines.reader import StepReader
from headstart_pipelines.step_cache import reusing
from headstart_pipelines.watchdog import watched

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

    from headstart_pipelines.display import Steps


@dataclass(frozen=True)
class Outcome:
    """Results of a local run; leaderboard and report are None for a recipe without a target."""

    run_id: str
    registered: tuple[str, ...]
    reused: tuple[str, ...]
    log: Path
    leaderboard: Leaderboard | None
    report: Path | None


def run(recipe: Recipe, workspace: Path, display: "Steps", *, image: str | None = None) -> Outcome:
    """Run a resolved recipe's pipeline. Artifacts, cache, logs and, by default, the MLflow store are kept in
    `workspace`.

    Steps are processes, or containers of `image` if it is given.

    Raises:
        InputError: Docker does not answer, or lacks the image or the network; the workspace, its record or the folder
            for temporary files cannot be used.
        HeadstartError: a step failed; the message is the step's own.
    """
    workspace = workspace.absolute()
    require_temporary_folder()
    found = docker.find_image(image) if image else None
    make_record(workspace)
    name = f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    parent = _open_parent(recipe, workspace, name)
    log = _log_file(workspace, name)
    display.opened(name, log)
    # One strategy at a time, because each uses all cores.
    placement = Placement(
        image=found.name if found else None,
        # In each task's environment, which is part of the cache key.
        environment={CODE_VARIABLE: found.id if found else code_digest()},
        parallelism=1,
    )
    pipeline = PIPELINES[recipe.pipeline](placement)
    with log.open("w", encoding="utf-8") as file:
        reader = StepReader(file, display, _step_names(pipeline, recipe))
        variables = {
            PARENT_VARIABLE: parent.id,
            PROGRESS_VARIABLE: "records",
            INJECTED_VARIABLE: None,
            STATE_VARIABLE: os.environ.get(STATE_VARIABLE, str(workspace / "state")),
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT),
            # Unbuffered, so that the children's lines are complete and in order in the log file.
            "PYTHONUNBUFFERED": "1",
        }
        try:
            with watched(containers=bool(found)) as mark, environment({**variables, **mark}):
                _run_pipeline(pipeline, recipe, workspace, reader, found)
        except BaseException as error:
            end_with_steps(parent, "FAILED" if isinstance(error, Exception) else "KILLED")
            if isinstance(error, RuntimeError):
                raise HeadstartError(reader.explain(error, log)) from error
            raise
        finally:
            reader.close()
    if reader.reused:
        parent.set_tags({REUSED_STEPS: ", ".join(reader.reused)})
    end(parent, "FINISHED")
    found_in_record = read_outcome(parent)
    return Outcome(
        run_id=parent.id,
        registered=found_in_record.registered,
        reused=tuple(reader.reused),
        log=log,
        leaderboard=found_in_record.leaderboard,
        report=_keep_report(found_in_record.report, workspace, name) if found_in_record.report else None,
    )


def _log_file(workspace: Path, name: str) -> Path:
    """Return the path of the run's log, in a folder that is there."""
    folder = workspace / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.log"


def _keep_report(page: str, workspace: Path, name: str) -> Path:
    """Write the report to the workspace and return its path."""
    kept = workspace / "reports" / f"{name}.html"
    write_text(kept, page)
    return kept


def code_digest() -> str:
    """Return a digest of the source files that steps run, and of the packages that add members to headstart's
    registries. Changed code thereby reuses no results."""
    import headstart
    import headstart_components

    own = {}
    for package in (headstart, headstart_components):
        root = Path(str(package.__file__)).parent
        own[package.__name__] = files_digest(root, sorted([*root.rglob("*.py"), *root.rglob("*.html")]))
    return json_digest([own, added_packages()])


def _open_parent(recipe: Recipe, workspace: Path, name: str) -> Run:
    client = connect()
    end_abandoned(client)
    local = database.file_of(os.environ["MLFLOW_TRACKING_URI"])
    location = artifacts(workspace).as_uri() if local else None
    parent = new_parent(
        client,
        experiment_named(client, recipe.name, artifact_location=location),
        name=name,
        pipeline_run=name,
        tags=owner_tags(),
    )
    values = recipe.to_dict()
    parent.log_params({key: values[key] for key in ("name", "modality", "seed", "source", "target", "training")})
    client.log_dict(parent.id, values, "recipe.json")
    return parent


def _run_pipeline(
    pipeline: "GraphComponent", recipe: Recipe, workspace: Path, reader: StepReader, image: docker.Image | None
) -> None:
    from kfp import local
    from kfp.local.logging_utils import local_logger_context

    root = workspace / "pipeline"
    container = docker.container(recipe, root, image) if image else None
    if container and container.note:
        print(f"headstart: {container.note}", file=sys.stderr)
    local.init(
        local.DockerRunner(**container.options) if container else local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(reader))
        # kfp reports reused tasks outside of its own logging, where Python drops it.
        stack.enter_context(local_logger_context())
        stack.enter_context(reusing(workspace))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(docker.containers(reader.interrupt) if container else processes(reader.interrupt))
        # kfp warns that an image without "python" in its name may lack Python, and that display names have no effect
        # here.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        pipeline(**parameters(recipe))


def _step_names(pipeline: "GraphComponent", recipe: Recipe) -> dict[str, list[str]]:
    """Return the readable names of each task; for a task in a loop, one for each iteration."""
    package = pipeline.pipeline_spec
    graphs = [package.root.dag, *(component.dag for component in package.components.values())]
    names = {key: [task.task_info.name] for graph in graphs for key, task in graph.tasks.items()}
    return {**names, "finetune": [f"finetune {strategy.name}" for strategy in recipe.strategies]}
