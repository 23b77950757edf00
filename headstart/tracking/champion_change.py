"""Change of a model's champion: recorded, serialised, and atomic even if the writer dies midway.

The steps: create a run that records the change, write an entry to the ledger, move the alias, write a second entry, end
the run. The ledger decides whether a change took place. A writer here cannot overwrite a change that it has not read,
and the next writer completes or discards an interrupted one.
"""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError
from headstart.tracking.champion_history import (
    PROMOTIONS,
    Change,
    History,
    Kind,
    find_records,
    read_history,
    read_record,
)
from headstart.tracking.champion_ledger import Ledger, read_ledger
from headstart.tracking.client import explained, ignoring, user_name
from headstart.tracking.logged_model import write_once
from headstart.tracking.names import (
    CHALLENGER,
    CHAMPION,
    CHANGE_ENTRY,
    CHANGE_FORCED,
    CHANGE_GATES,
    CHANGE_KIND,
    CHANGE_REASON,
    CHANGED_AT,
    CHANGED_BY,
    CHANGED_FROM,
    CHANGED_MODEL,
    CHANGED_TO,
    LEDGER,
    MODEL_DIGEST,
    PROMOTION,
    ROLE,
)
from headstart.tracking.runs import experiment_named

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from headstart.tracking.gate import GateResult


_NOTE = (
    "Every run is one change of a model's champion: its tags say which version followed which, who changed it and why, "
    "its `gates.json` what was measured. `headstart history MODEL` tells the whole history of a model, changes by hand "
    "included; `headstart promote` and `headstart rollback` make a change."
)


@explained()
def settled_history(client: "MlflowClient", model: str) -> History:
    """Return the history on which to base a change, after completing a change whose writer died after moving the alias.

    Raises:
        InputError: as `read_history`.
    """
    while True:
        history = read_history(client, model)
        if history.interrupted is None:
            return history
        if ledger := history.ledger.enter(client, history.interrupted):
            _settle(client, ledger)


@explained()
def change_champion(
    client: "MlflowClient",
    history: History,
    version: "ModelVersion",
    *,
    kind: Kind,
    reason: str | None,
    forced: bool = False,
    gates: tuple["GateResult", ...] = (),
) -> Change:
    """Make the version champion and record the change.

    Raises:
        HeadstartError: the champion was changed since `history` was read; nothing was changed here.
    """
    model, ledger = history.model, history.ledger
    change = Change(
        version=str(version.version),
        previous=history.champion,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=user_name(),
        reason=reason,
        forced=forced,
        gates=tuple({key: value for key, value in asdict(gate).items() if key != "text"} for gate in gates),
        kind=kind,
        digest=version.tags.get(MODEL_DIGEST),
    )
    run_id = _write_record(client, ledger, change, gates)
    # If two first changes coincide, PostgreSQL refuses the second writer's tag.
    write_once(
        lambda: client.set_registered_model_tag(model, LEDGER, ledger.run_id),
        lambda: client.get_registered_model(model).tags.get(LEDGER) == ledger.run_id,
    )
    champion = client.get_registered_model(model).aliases.get(CHAMPION)
    entered = ledger.enter(client, run_id) if _same(champion, history.alias) else None
    if entered is None:
        client.set_terminated(run_id, "FAILED")
        raise _overtaken(client, change, history)
    client.set_registered_model_alias(model, CHAMPION, version.version)
    completed = entered.enter(client, run_id)
    if completed is None:
        _give_way(client, entered, change)
        client.set_terminated(run_id, "FAILED")
        raise _overtaken(client, change, history)
    _settle(client, completed)
    note = f"champion since {change.at} by {change.by}, run {run_id}"
    client.set_model_version_tag(model, version.version, PROMOTION, note)
    retire_challenger(client, model, change.version)
    return replace(change, run_id=run_id)


@explained()
def retire_challenger(client: "MlflowClient", model: str, champion: str | None) -> None:
    """Take the challenger's alias from the version that is the champion now; from no other.

    It stays where the server lets this user set aliases but delete none.
    """
    if _same(client.get_registered_model(model).aliases.get(CHALLENGER), champion):
        with ignoring("PERMISSION_DENIED"):
            client.delete_registered_model_alias(model, CHALLENGER)


def _write_record(client: "MlflowClient", ledger: Ledger, change: Change, gates: tuple["GateResult", ...]) -> str:
    """Create the run that records the change, leave it open, and return its id."""
    tags = {
        ROLE: "promotion",
        LEDGER: ledger.run_id,
        CHANGE_ENTRY: str(len(ledger.entries) + 1),
        CHANGE_KIND: change.kind,
        CHANGED_MODEL: ledger.model,
        CHANGED_FROM: change.previous or "",
        CHANGED_TO: change.version or "",
        CHANGED_AT: change.at or "",
        CHANGED_BY: change.by or "",
        CHANGE_REASON: change.reason or "",
        CHANGE_FORCED: "true" if change.forced else "false",
        CHANGE_GATES: json.dumps(change.gates),
        MODEL_DIGEST: change.digest or "",
    }
    name = f"{change.kind} {ledger.model}/{change.version}"
    run_id = _create_run(client, ledger, name, tags)
    client.log_dict(run_id, {"gates": [asdict(gate) for gate in gates]}, "gates.json")
    return run_id


def _create_run(client: "MlflowClient", ledger: Ledger, name: str, tags: dict[str, str]) -> str:
    """Create a run in the experiment of promotions, or in the ledger's where the server keeps this user out of that."""
    with ignoring("PERMISSION_DENIED"):
        experiment = experiment_named(client, PROMOTIONS, note=_NOTE)
        return str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
    return str(client.create_run(ledger.experiment_id, run_name=name, tags=tags).info.run_id)


def _give_way(client: "MlflowClient", entered: Ledger, change: Change) -> None:
    """Undo a late move of the alias, which another change has already superseded."""
    ledger = _reread(client, entered)
    while True:
        later = replace(ledger, entries=ledger.entries[len(entered.entries) :]).completed
        records = find_records(client, ledger)
        champion = read_record(records[later[-1]]).version if later else change.previous
        if champion:
            client.set_registered_model_alias(entered.model, CHAMPION, champion)
        else:
            client.delete_registered_model_alias(entered.model, CHAMPION)
        before, ledger = ledger, _reread(client, entered)
        if ledger == before:
            return


def _reread(client: "MlflowClient", ledger: Ledger) -> Ledger:
    return read_ledger(client, client.get_registered_model(ledger.model))


def _settle(client: "MlflowClient", ledger: Ledger) -> None:
    """End the runs of all changes that the ledger has decided, interrupted ones included."""
    for run_id, run in find_records(client, ledger).items():
        if run_id in ledger.completed:
            status = "FINISHED"
        elif _entry(run) <= len(ledger.entries):
            status = "FAILED"
        else:
            continue
        if run.info.status == status or run.info.lifecycle_stage != "active":
            continue
        client.set_terminated(run_id, status)


def _entry(run: "Run") -> int:
    """Return the position in the ledger for which a record was made; 0 if its tag is unreadable."""
    entry = run.data.tags.get(CHANGE_ENTRY, "")
    return int(entry) if entry.isdecimal() else 0


def _overtaken(client: "MlflowClient", change: Change, history: History) -> HeadstartError:
    model = history.model
    champion = client.get_registered_model(model).aliases.get(CHAMPION)
    if _same(champion, history.alias):
        what = f"another change of the champion of {model} was begun"
    else:
        what = f"{f'version {champion}' if champion else 'no version'} became the champion of {model}"
    return HeadstartError(
        f"Meanwhile {what}, so version {change.version} did not. Look at `headstart history {model}`, and run the "
        "command again if it is still wanted."
    )


def _same(alias: str | int | None, version: str | None) -> bool:
    """Return whether an alias, as MLflow returns it, names `version`."""
    return (str(alias) if alias else None) == version
