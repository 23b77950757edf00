"""The record of a search: one run with a nested run for each trial, in the experiment of the recipe."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headstart.signals import exiting_when_terminated
from headstart.tracking.client import explained
from headstart.tracking.names import ROLE, SOURCE_MODEL, STRATEGY, TRIAL_STATE
from headstart.tracking.run_owner import owner_tags
from headstart.tracking.runs import Run, child_run, end, end_with_steps, new_run

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def search_run(client: "MlflowClient", experiment_id: str, name: str, run_id: str | None) -> Iterator[Run]:
    """Open the run of a search: the one with this id, which an earlier session began, or a new one.

    It ends as FINISHED, as FAILED if the body raises, or as KILLED if it is interrupted, and so do its trials that are
    still open.
    """
    run = _reopened(client, experiment_id, run_id) if run_id else None
    run = run or new_run(client, experiment_id, name=name, tags={ROLE: "search", **owner_tags()})
    try:
        with exiting_when_terminated():
            yield run
    except BaseException as error:
        end_with_steps(run, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    end_with_steps(run, "FINISHED")


@contextmanager
def trial_run(parent: Run, name: str, source: str, settings: Mapping[str, Any]) -> Iterator[Run]:
    """Open the run of a trial, a child of its search, and log what the trial tries; it is closed by `end_trial`, or by
    the search."""
    run = child_run(parent, name, {ROLE: "trial", STRATEGY: name, SOURCE_MODEL: source})
    run.log_params({"source": source, **settings})
    yield run
    run.flush()


def end_trial(run: Run, state: str, figures: Mapping[str, float | None]) -> None:
    """End the run of a trial in its state, `complete`, `pruned` or `failed`, with its figures."""
    run.flush()
    run.log_metrics(figures)
    run.set_tags({TRIAL_STATE: state})
    end(run, "FAILED" if state == "failed" else "FINISHED")


@explained()
def _reopened(client: "MlflowClient", experiment_id: str, run_id: str) -> Run | None:
    """The run with this id, at work again and this process's; None if it was deleted."""
    known = client.search_runs([experiment_id], f"attributes.run_id = '{run_id}'")
    if not known:
        return None
    client.update_run(run_id, status="RUNNING")
    run = Run(client, run_id, experiment_id, None)
    run.set_tags(owner_tags())
    return run
