"""Promotion and rollback: gated changes of a model's champion."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.tracking.champion_change import change_champion, retire_challenger, settled_history
from headstart.tracking.champion_history import Change, History
from headstart.tracking.gate import Case, GateResult, SharedSettings, ask, compares, judge
from headstart.tracking.looks import count_looks, record_look
from headstart.tracking.names import CHALLENGER
from headstart.tracking.paired_predictions import paired_predictions
from headstart.tracking.policy import Policy
from headstart.tracking.registry import find_version
from headstart.tracking.version_record import read_version, without_evidence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_REASON_LIMIT = 1000


@dataclass(frozen=True)
class Promotion:
    """The result of a promotion. `change` is None if nothing changed: a gate refused, or the version is the champion
    already, or no version waits to become it; for these no gate is evaluated."""

    model: str
    version: str
    champion: str | None
    """the champion with which it was compared"""
    gates: tuple[GateResult, ...]
    change: Change | None

    @property
    def promoted(self) -> bool:
        """Whether the version became the champion by this."""
        return self.change is not None

    @property
    def refusals(self) -> tuple[GateResult, ...]:
        """The results of the gates that did not pass."""
        return tuple(gate for gate in self.gates if gate.passed is False)


def promote(
    client: "MlflowClient",
    model: str,
    *,
    version: str | None = None,
    policy: SharedSettings | None = None,
    data: Path | None = None,
    reason: str | None = None,
    force: bool = False,
) -> Promotion:
    """Make `version`, by default the challenger, the champion of `model` if every gate of the policy passes.

    The champion is nobody's challenger: that alias leaves it, and waits for the next version that is registered.

    Args:
        data: a packed data set with the version's test split. It is needed if the stored predictions are for different
            samples and the data set is no longer at its recorded path.
        force: promote even if a gate refuses; the record shows that.

    Raises:
        InputError: there is no such model, version or challenger, or the arguments do not fit together.
        HeadstartError: the champion was changed during the evaluation of the gates; nothing was changed here.
    """
    reason = _checked_reason(reason, force)
    history = settled_history(client, model)
    chosen = _chosen(client, history, version)
    number = str(chosen.version)
    if history.champion == number:
        retire_challenger(client, model, number)
        return Promotion(model, number, history.champion, (), None)
    policy = policy or Policy()
    challenger, champion, pair = read_version(client, chosen), None, None
    if history.champion is not None:
        champion = read_version(client, find_version(client, f"models:/{model}/{history.champion}"))
        pair = paired_predictions(challenger, champion, data) if compares(policy) else None
    tested = challenger.evidence.digests.get("test_digest") if challenger.evidence else None
    looks = count_looks(client, tested) + 1 if tested else 1
    gates = tuple(judge(Case(policy, challenger, champion, pair, looks)))
    refused = any(gate.passed is False for gate in gates)
    if refused and not force:
        return Promotion(model, number, history.champion, gates, None)
    change = change_champion(client, history, chosen, kind="promotion", reason=reason, forced=refused, gates=gates)
    if tested and change.run_id:
        record_look(client, change.run_id, tested)
    return Promotion(model, number, history.champion, gates, change)


def rollback(client: "MlflowClient", model: str, *, reason: str | None = None, force: bool = False) -> Change:
    """Make the previous champion the champion again; a second rollback goes one further back.

    A champion that was moved by hand is replaced by the last recorded one. Only the gate `loads` is evaluated: a
    rollback has to work while something is broken, but must lead to a version that works. `force` overrides it, as in
    `promote`.

    Raises:
        InputError: there was no previous champion, it was deleted, or it cannot be used.
        HeadstartError: the champion was changed concurrently.
    """
    reason = _checked_reason(reason, force)
    history = settled_history(client, model)
    before = history.before
    if before is None or before.version is None:
        now = f"version {history.champion} is its first" if history.champion else "it never had one"
        raise InputError(f"{model} has no earlier champion to go back to: {now}.")
    try:
        version = find_version(client, f"models:/{model}/{before.version}")
    except InputError:
        raise InputError(
            f"Version {before.version} of {model}, the champion before, was deleted; choose another with `headstart "
            f"promote {model} --version V`."
        ) from None
    (gate,) = ask("loads", Case(Policy(), without_evidence(version)))
    if not gate.passed and not force:
        raise InputError(
            f"Version {before.version} of {model}, the champion before, cannot be used: {gate.text}. Choose another "
            f"with `headstart promote {model} --version V`, or go back for the record with --force --reason TEXT."
        )
    return change_champion(
        client, history, version, kind="rollback", reason=reason, forced=not gate.passed, gates=(gate,)
    )


def _chosen(client: "MlflowClient", history: History, version: str | None) -> "ModelVersion":
    """Return the version that is asked for: by default the challenger, or the champion if it has none."""
    model = history.model
    if version:
        return find_version(client, f"models:/{model}/{version}")
    try:
        return find_version(client, f"models:/{model}@{CHALLENGER}")
    except InputError:
        if history.champion:
            return find_version(client, f"models:/{model}/{history.champion}")
        raise InputError(
            f"There is no models:/{model}@{CHALLENGER}: no version waits to be promoted; name one with --version V."
        ) from None


def _checked_reason(reason: str | None, force: bool) -> str | None:
    """Return the reason on one line.

    Raises:
        InputError: it is longer than the record permits, is not printable, or is missing although `force` requires it.
    """
    text = " ".join((reason or "").split())
    if len(text) > _REASON_LIMIT or not text.isprintable():
        raise InputError(
            f"--reason takes up to {_REASON_LIMIT} characters and no control characters; write it shorter or plainer."
        )
    if force and not text:
        raise InputError("--force overrides the gates, which the record must explain; give --reason TEXT.")
    return text or None
