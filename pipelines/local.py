"""Local run of a recipe: the runner carries out the same compiled package as a cluster."""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
from headstart.tracking.reused import note_reused_steps
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
from headstart_pipelines.packages import packaged
from headstart_pipelines.runner.graph import StepFailedError
from headstart_pipelines.runner.journal import Display, Journal
from headstart_pipelines.runner.processes import Processes
from headstart_pipelines.runner.run_package import Steps, run_package
from headstart_pipelines.runner.workers import workers
from headstart_pipelines.watchdog import watched


@dataclass(frozen=True)
class Outcome:
    """Results of a local run; leaderboard and report are None for a recipe without a target."""

    run_id: str
    registered: tuple[str, ...]
    reused: tuple[str, ...]
    log: Path
    leaderboard: Leaderboard | None
    report: Path | None


def run(
    recipe: Recipe,
    workspace: Path,
    display: Display | None = None,
    *,
    processes: Processes | None = None,
    image: str | None = None,
) -> Outcome:
    """Run a resolved recipe's pipeline. Artifacts, cache, logs and, by default, the MLflow store are kept in
    `workspace`.

    Args:
        display: shows the steps as they go.
        processes: runs the steps; what `workers` yields, begun beforehand so that it is ready by now.
        image: of containers that run the steps instead.

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
    if display:
        display.opened(name, log)
    with log.open("w", encoding="utf-8") as file:
        journal = Journal(file, display)
        try:
            _run_steps(recipe, workspace, parent, journal, processes, found)
        except BaseException as error:
            end_with_steps(parent, "FAILED" if isinstance(error, Exception) else "KILLED")
            if isinstance(error, StepFailedError):
                raise HeadstartError(journal.explain(log)) from error
            raise
        finally:
            journal.close()
    if journal.reused:
        note_reused_steps(parent, {name: journal.runs_behind[name] for name in journal.reused})
    end(parent, "FINISHED")
    found_in_record = read_outcome(parent)
    return Outcome(
        run_id=parent.id,
        registered=found_in_record.registered,
        reused=tuple(journal.reused),
        log=log,
        leaderboard=found_in_record.leaderboard,
        report=_keep_report(found_in_record.report, workspace, name) if found_in_record.report else None,
    )


def _log_file(workspace: Path, name: str) -> Path:
    """Return the path of the run's log, in a folder that is there."""
    folder = workspace / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.log"


def _run_steps(
    recipe: Recipe,
    workspace: Path,
    parent: Run,
    journal: Journal,
    processes: Processes | None,
    image: docker.Image | None,
) -> None:
    variables = {
        PARENT_VARIABLE: parent.id,
        PROGRESS_VARIABLE: "records",
        INJECTED_VARIABLE: None,
        STATE_VARIABLE: os.environ.get(STATE_VARIABLE, str(workspace / "state")),
    }
    with environment(variables), _steps(recipe, workspace / "pipeline", processes, image) as steps:
        run_package(
            packaged(recipe.pipeline),
            recipe.to_sections(),
            workspace,
            steps,
            journal,
            # In each task's environment, which is part of the cache key.
            environment={CODE_VARIABLE: image.id if image else code_digest()},
            image=image.name if image else None,
        )


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


@contextlib.contextmanager
def _steps(recipe: Recipe, root: Path, processes: Processes | None, image: docker.Image | None) -> Iterator[Steps]:
    """What runs the steps: processes, or containers of an image."""
    if image:
        with watched(containers=True) as mark, environment(mark):
            container = docker.container(recipe, root, image)
            if container.note:
                print(f"headstart: {container.note}", file=sys.stderr)
            yield docker.Containers(root, container.options)
    elif processes:
        yield processes
    else:
        with workers() as begun:
            yield begun
