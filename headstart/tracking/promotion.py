"""Promotion: which version of a model is the champion."""

import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headstart.tracking.client import explained
from headstart.tracking.names import CHALLENGER, CHAMPION, PROMOTION
from headstart.tracking.registry import find_version

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Promoted:
    """A change of the champion: from which version (None for the first) to which, when, by whom and why."""

    model: str
    version: str
    previous: str | None
    at: str
    by: str
    reason: str | None


def promote(client: "MlflowClient", model: str, *, version: str | None = None, reason: str | None = None) -> Promoted:
    """Makes `version`, by default the challenger, the champion of `model` and writes down the change on it.

    Promoting the champion again changes nothing.

    Raises:
        InputError: there is no such model, version or challenger.
    """
    chosen = find_version(client, f"models:/{model}/{version}" if version else f"models:/{model}@{CHALLENGER}")
    with explained():
        previous = client.get_registered_model(model).aliases.get(CHAMPION)
        change = Promoted(
            model=model,
            version=str(chosen.version),
            previous=str(previous) if previous else None,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=getpass.getuser(),
            reason=reason,
        )
        if change.previous != change.version:
            client.set_registered_model_alias(model, CHAMPION, change.version)
            client.set_model_version_tag(model, change.version, PROMOTION, json.dumps(asdict(change)))
    return change
