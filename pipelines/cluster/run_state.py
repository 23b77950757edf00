"""State of a run and of each of its steps: read once, or polled until the run ends."""

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
# An API server that is upgraded or moved to another node is back within this time.
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class RunState:
    """A run as reported by the server at one time.

    `word` is the run's state, `reason` an explanation for the user or None; `workflow` is None if the server does not
    report it.
    """

    run: Run
    word: str
    reason: str | None
    states: tuple[State, ...]
    workflow: Workflow | None

    @property
    def is_over(self) -> bool:
        """True if the run has ended or is lost."""
        return self.run.state in FINAL or self.word == "lost"


def read_run_state(server: Server, run: Run) -> RunState:
    """Read the state of a run.

    Raises:
        HeadstartError: the server does not answer.
        InputError: it does not report the run's pipeline.
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
        # For a large workflow, Kubeflow Pipelines stops updating its tasks.
        is_current = is_told or not any(task.state in ("PENDING", "RUNNING") for task in tasks)
        states = concluded(states, word_of(run), is_current=is_current)
    return RunState(run, word_of(run), None, tuple(states), workflow)


def run_states(server: Server, run_id: str, waiting: Callable[[str, float], None]) -> Iterator[RunState]:
    """Yield the state of a run repeatedly until it is over; an unreachable server is asked again for a while."""
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
    """Return the compiled pipeline of a run."""
    reference = run.pipeline_version_reference
    package: Mapping[str, Any] | None = run.pipeline_spec
    if package is None and reference:
        package = server.pipelines.pipeline_service_get_pipeline_version(
            reference.pipeline_id, reference.pipeline_version_id
        ).pipeline_spec
    if not package:
        raise InputError(f"The server does not tell which pipeline the run {run.display_name} is of.")
    return package
