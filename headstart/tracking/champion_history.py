"""History of a model's champion: every recorded change, and changes inferred where no record was left."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from headstart.errors import InputError
from headstart.tracking.champion_ledger import Ledger, read_ledger
from headstart.tracking.client import explained, ignoring, search_all
from headstart.tracking.names import (
    CHAMPION,
    CHANGE_FORCED,
    CHANGE_GATES,
    CHANGE_KIND,
    CHANGE_REASON,
    CHANGED_AT,
    CHANGED_BY,
    CHANGED_FROM,
    CHANGED_TO,
    LEDGER,
    MODEL_DIGEST,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import RegisteredModel

Kind = Literal["promotion", "rollback", "outside"]

PROMOTIONS = "promotions"
"""The experiment that holds a run for each change of a champion, apart from the runs that train and compare."""


@dataclass(frozen=True)
class Change:
    """One change of a model's champion, from `previous` to `version`; None stands for no champion.

    A change of the kind `outside` was made by hand or by another program; its time and author are unknown. `gates`
    lists name, passed, value, relation and limit of each gate at that time; `digest` is that of the version, `run_id`
    the MLflow run that records the change.
    """

    version: str | None
    previous: str | None
    at: str | None = None
    by: str | None = None
    reason: str | None = None
    forced: bool = False
    gates: tuple[dict[str, Any], ...] = ()
    kind: Kind = "outside"
    digest: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class History:
    """All changes of a model's champion, oldest first, and the current champion.

    `alias` is the version that the champion's alias names: the champion, or one that was deleted, whose alias MLflow
    kept before 3.17.
    """

    model: str
    champion: str | None
    alias: str | None
    changes: tuple[Change, ...]
    ledger: Ledger

    @property
    def interrupted(self) -> str | None:
        """The run of the last change, if it moved the alias but has no second entry in the ledger yet."""
        return self.ledger.open if self.changes and self.changes[-1].run_id == self.ledger.open else None

    @property
    def before(self) -> Change | None:
        """The change that made the current champion's predecessor champion; None if there was none.

        A rollback removes the changes that it undoes, so that a second rollback goes further back instead of
        alternating.
        """
        stack: list[Change] = []
        for change in self.changes:
            if change.kind == "rollback":
                while stack and stack[-1].version != change.version:
                    stack.pop()
            if not stack or change.kind != "rollback":
                stack.append(change)
        return next((change for change in reversed(stack) if change.version not in (None, self.champion)), None)


@explained()
def read_history(client: "MlflowClient", model: str) -> History:
    """Read the history of the registered model `model`.

    Raises:
        InputError: there is no such model, or none of its versions has an MLflow run.
    """
    registered, ledger = _read_together(client, model)
    records = {run_id: read_record(run) for run_id, run in find_records(client, ledger).items()}
    named = registered.aliases.get(CHAMPION)
    alias = str(named) if named else None
    versions = {str(version.version) for version in search_all(client.search_model_versions, f"name = '{model}'")}
    champion = alias if alias in versions else None
    in_effect = list(ledger.completed)
    if ledger.open in records and records[ledger.open].version == alias:
        # Its writer has moved the alias but not yet written the second entry.
        in_effect.append(ledger.open)
    changes: list[Change] = []

    def add_outside(now: str | None) -> None:
        before = changes[-1].version if changes else None
        if now != before:
            deleted = now is None and before not in versions
            changes.append(Change(now, before, reason=f"version {before} was deleted" if deleted else None))

    for change in (records[run_id] for run_id in in_effect if run_id in records):
        add_outside(change.previous)
        changes.append(change)
    add_outside(champion)
    return History(model, champion, alias, tuple(changes), ledger)


def find_records(client: "MlflowClient", ledger: Ledger) -> dict[str, "Run"]:
    """Return the runs that record changes for the ledger, by id; also of changes that did not take place."""
    from mlflow.entities import ViewType

    # Changes made before there was an experiment for them are recorded in that of the ledger's own run.
    experiments = [ledger.experiment_id]
    if own := client.get_experiment_by_name(PROMOTIONS):
        experiments.append(own.experiment_id)
    # Deleted runs are included: their changes took place nevertheless.
    found = search_all(
        client.search_runs, experiments, f"tags.`{LEDGER}` = '{ledger.run_id}'", run_view_type=ViewType.ALL
    )
    return {run.info.run_id: run for run in found}


def read_record(run: "Run") -> Change:
    """Return the change that a run records."""
    tags = run.data.tags
    try:
        gates = tuple(gate for gate in json.loads(tags.get(CHANGE_GATES, "[]")) if isinstance(gate, dict))
    except (ValueError, TypeError):
        # The tag was edited by hand; the run's gates.json still has the gates.
        gates = ()
    return Change(
        version=tags.get(CHANGED_TO),
        previous=tags.get(CHANGED_FROM) or None,
        at=tags.get(CHANGED_AT),
        by=tags.get(CHANGED_BY),
        reason=tags.get(CHANGE_REASON) or None,
        forced=tags.get(CHANGE_FORCED) == "true",
        gates=gates,
        kind="rollback" if tags.get(CHANGE_KIND) == "rollback" else "promotion",
        digest=tags.get(MODEL_DIGEST) or None,
        run_id=run.info.run_id,
    )


def _read_together(client: "MlflowClient", model: str) -> tuple["RegisteredModel", Ledger]:
    """Read the registered model and the ledger at one moment: repeat until the ledger is the same before and after."""
    ledger = read_ledger(client, _registered(client, model))
    while True:
        registered = client.get_registered_model(model)
        later = read_ledger(client, registered)
        if later == ledger:
            return registered, ledger
        ledger = later


def _registered(client: "MlflowClient", model: str) -> "RegisteredModel":
    with ignoring("RESOURCE_DOES_NOT_EXIST"):
        return client.get_registered_model(model)
    known = ", ".join(sorted(each.name for each in client.search_registered_models())) or "none"
    raise InputError(f"The registry has no model {model!r}; its models are: {known}.")
