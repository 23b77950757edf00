"""Ledger of a model's champion: the order of its changes, agreed on by concurrent writers.

MLflow moves an alias unconditionally; it has no compare-and-swap. But it writes a run's parameter once: of two values
for the same key, the first is kept and the other refused, also when requests are repeated. So the parameters
`headstart.champion/<model>/1`, `/2`, … of one run form an append-only list, in which exactly one of several concurrent
writers gets the next entry.

An entry is the id of the MLflow run that records a change. A change writes two entries, one before it moves the alias
and one after; it took place if the two are adjacent. Without the second entry it was interrupted, and the first entry
of the next change voids it. There is no lock to be left behind by a crash, and no clocks are compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError, InputError
from headstart.tracking.client import explained, ignoring
from headstart.tracking.names import LEDGER

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import RegisteredModel


def without_ledger(params: Mapping[str, str]) -> dict[str, str]:
    """A run's parameters but the entries of a ledger, which the run of a model's first version keeps among them."""
    return {key: value for key, value in params.items() if not key.startswith("headstart.")}


@dataclass(frozen=True)
class Ledger:
    """The entries for `model` as read, oldest first, from the parameters of the run `run_id`."""

    model: str
    run_id: str
    experiment_id: str
    entries: tuple[str, ...]

    @property
    def completed(self) -> tuple[str, ...]:
        """The changes that took place, oldest first."""
        return tuple(a for a, b in zip(self.entries, self.entries[1:], strict=False) if a == b)

    @property
    def open(self) -> str | None:
        """A change in progress or interrupted, after which there is no other entry yet."""
        return self.entries[-1] if self.entries and self.entries[-1] not in self.completed else None

    @explained()
    def enter(self, client: "MlflowClient", change: str) -> "Ledger | None":
        """Return the ledger with `change` as its next entry; None if another writer's entry is already there."""
        from mlflow.exceptions import MlflowException

        key = f"{_prefix(self.model)}{len(self.entries) + 1}"
        try:
            client.log_param(self.run_id, key, change)
        except MlflowException:
            # Refused because another entry is there, or for an unrelated reason, which is raised again.
            if client.get_run(self.run_id).data.params.get(key) in (None, change):
                raise
            return None
        return replace(self, entries=(*self.entries, change))


def read_ledger(client: "MlflowClient", model: "RegisteredModel") -> Ledger:
    """Read the ledger of a registered model; it is empty for a model that never had a champion.

    The ledger is kept in the run of the oldest version that has one, and changes are recorded in that run's experiment.
    Once there is an entry, the model's tag `headstart.ledger` names the run.

    Raises:
        InputError: no version of the model has an MLflow run.
        HeadstartError: the run was deleted.
    """
    named = model.tags.get(LEDGER)
    run = _find_run(client, named) if named else None
    if run is None:
        run = _first_run(client, model.name)
    elif run.info.lifecycle_stage != "active":
        raise HeadstartError(
            f"The MLflow run {named}, which keeps the history of {model.name}, was deleted; restore it with "
            f"`mlflow runs restore --run-id {named}` or in the MLflow page."
        )
    params = run.data.params
    entries: list[str] = []
    while entry := params.get(f"{_prefix(model.name)}{len(entries) + 1}"):
        entries.append(entry)
    return Ledger(model.name, run.info.run_id, run.info.experiment_id, tuple(entries))


def _prefix(model: str) -> str:
    return f"headstart.champion/{model}/"


@explained()
def _first_run(client: "MlflowClient", model: str) -> "Run":
    versions = client.search_model_versions(f"name = '{model}'", order_by=["version_number ASC"])
    for version in sorted(versions, key=lambda version: int(version.version)):
        run = _find_run(client, version.run_id) if version.run_id else None
        if run is not None and run.info.lifecycle_stage == "active":
            return run
    raise InputError(
        f"No version of {model} has an MLflow run, beside which a change of its champion could be recorded; register "
        "the model with `headstart run`."
    )


@explained()
def _find_run(client: "MlflowClient", run_id: str) -> "Run | None":
    with ignoring("RESOURCE_DOES_NOT_EXIST"):
        return client.get_run(run_id)
    return None
