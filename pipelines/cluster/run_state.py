"""The state of a run and of each of its steps: asked for once, or again and again until it is over."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kfp_server_api import V2beta1Run as Run

from headstart.errors import InputError
from headstart_pipelines.cluster import clock
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.runs import FINAL, is_lost, parameters_of, terminated_at, word_of
from headstart_pipelines.cluster.states import State, concluded, states_of, states_of_tasks
from headstart_pipelines.cluster.steps import steps_of
from headstart_pipelines.cluster.transport import UnansweredError
from headstart_pipelines.cluster.workflow import Workflow, read_workflow

_POLL_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 60.0
# An API server that is upgraded or moved to another node is back by then.
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class RunState:
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


def read_run_state(server: Server, run: Run) -> RunState:
    """The state of a run.

    Raises:
        HeadstartError: the server does not answer.
        InputError: it does not tell which pipeline the run is of.
    """
    workflow = read_workflow(server, run.run_id)
    package = (workflow.package if workflow else None) or _package_of(server, run)
    steps = steps_of(package, parameters_of(run), workflow.paths if workflow else frozenset())
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
        return RunState(run, "lost", reason, tuple(concluded(states, "lost")), workflow)
    if run.state in FINAL:
        # Kubeflow Pipelines loses sight of the tasks of a large workflow.
        is_current = is_told or not any(task.state in ("PENDING", "RUNNING") for task in tasks)
        states = concluded(states, word_of(run), is_current=is_current)
    return RunState(run, word_of(run), None, tuple(states), workflow)


def run_states(server: Server, run_id: str, waiting: Callable[[str, float], None]) -> Iterator[RunState]:
    """The state of a run, again and again until it is over; a server that is away is asked again for a while."""
    failing_since: datetime | None = None
    wait = _POLL_SECONDS
    while True:
        try:
            run_state = read_run_state(server, server.runs.run_service_get_run(run_id))
        except UnansweredError as error:
            failing_since = failing_since or clock.now()
            if (clock.now() - failing_since).total_seconds() >= _PATIENCE_SECONDS:
                raise
            waiting(str(error), wait)
            clock.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            continue
        failing_since, wait = None, _POLL_SECONDS
        yield run_state
        if run_state.is_over:
            return
        clock.sleep(_POLL_SECONDS)


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
