"""The course of a run: what became of it so far, and of each of its steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_server_api import V2beta1Run as Run

from headstart.errors import InputError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.runs import FINAL, is_lost, terminated_at, word_of
from headstart_pipelines.cluster.states import State, concluded, states_of, states_of_tasks
from headstart_pipelines.cluster.steps import steps_of
from headstart_pipelines.cluster.workflow import Workflow, read_workflow


@dataclass(frozen=True)
class Course:
    """A run as the server told it at one moment.

    `word` is what the run is, `reason` what a person has to know about that; `workflow` is None where the server does
    not tell it.
    """

    run: Run
    word: str
    reason: str | None
    states: tuple[State, ...]
    workflow: Workflow | None

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen in the run any more."""
        return self.run.state in FINAL or self.word == "lost"


def read_course(server: Server, run: Run) -> Course:
    """The course of a run.

    Raises:
        HeadstartError: the server does not answer.
        InputError: it does not tell which pipeline the run is of.
    """
    workflow = read_workflow(server, run.run_id)
    package = (workflow.package if workflow else None) or _package_of(server, run)
    parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
    steps = steps_of(package, parameters, workflow.paths if workflow else frozenset())
    tasks = (run.run_details.task_details if run.run_details else None) or ()
    is_told = bool(workflow and (workflow.nodes or not tasks))
    if workflow and is_told:
        states = states_of(steps, workflow, terminated=terminated_at(run))
    else:
        states = states_of_tasks(steps, tasks)
    if is_lost(server, run):
        reason = (
            "its schedule was deleted while it ran, and its workflow with it; Kubeflow Pipelines shows it as "
            f"{word_of(run)} for ever"
        )
        return Course(run, "lost", reason, tuple(concluded(states, "lost")), workflow)
    if run.state in FINAL:
        # Kubeflow Pipelines loses sight of the tasks of a large workflow.
        is_current = is_told or not any(task.state in ("PENDING", "RUNNING") for task in tasks)
        states = concluded(states, word_of(run), is_current=is_current)
    return Course(run, word_of(run), None, tuple(states), workflow)


def _package_of(server: Server, run: Run) -> Mapping[str, Any]:
    """The compiled pipeline of a run."""
    reference = run.pipeline_version_reference
    package: Mapping[str, Any] | None = run.pipeline_spec
    if package is None and reference:
        package = server.pipelines.pipeline_service_get_pipeline_version(
            reference.pipeline_id, reference.pipeline_version_id
        ).pipeline_spec
    if not package:
        raise InputError(f"The server does not tell which pipeline the run {run.display_name} is of.")
    return package
