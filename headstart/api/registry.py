"""Results and registered models in Python: comparison, promotion and lineage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.api.record import opened
from headstart.judging.monitoring import TOLERANCE, Monitoring
from headstart.models.reference import REGISTRY
from headstart.tracking import lineage as family
from headstart.tracking import promotion
from headstart.tracking.champion_history import Change, read_history
from headstart.tracking.difference import Difference, difference
from headstart.tracking.leaderboard import Comparison
from headstart.tracking.leaderboard import compare as read_comparison
from headstart.tracking.monitoring import monitor_version
from headstart.tracking.policy import Policy, load_policy
from headstart.tracking.promotion import Promotion


def compare(
    experiment: str, *, sort: str | None = None, every_run: bool = False, workspace: str | Path | None = None
) -> Comparison:
    """Return the leaderboard of an experiment: its `table` is a DataFrame, its `sentence` the verdict.

    Args:
        experiment: a recipe's name.
        sort: a column to sort by; None: the metric that the experiment was judged by.
        every_run: all pipeline runs of the experiment, not only the latest.
        workspace: as for `load`.

    Raises:
        InputError: there is no such experiment or column, or nothing was evaluated yet.
    """
    with opened(workspace) as client:
        return read_comparison(client, experiment, sort=sort, every_run=every_run)


def promote(
    model: str,
    *,
    version: str | int | None = None,
    policy: str | Path | Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    reason: str | None = None,
    force: bool = False,
    workspace: str | Path | None = None,
) -> Promotion:
    """Make a version the champion of its model if every gate of the policy lets it.

    A refusal is a result, not an error: `promoted` tells, and `refusals` are the gates that said no.

    Args:
        model: a registered model's name.
        version: its number; None: the challenger.
        policy: the gates, a YAML file or its keys; None: the default ones.
        data: a packed data set to evaluate both on, where their stored predictions are about different samples.
        reason: why, for the record.
        force: promote also what a gate refuses; needs a reason.
        workspace: as for `load`.

    Raises:
        InputError: there is no such model, version or challenger, or the arguments do not fit together.
        HeadstartError: the champion was changed by somebody else meanwhile; nothing was changed here.
    """
    with opened(workspace) as client:
        return promotion.promote(
            client,
            model,
            version=None if version is None else str(version),
            policy=_policy(policy),
            data=None if data is None else Path(data),
            reason=reason,
            force=force,
        )


def rollback(
    model: str, *, reason: str | None = None, force: bool = False, workspace: str | Path | None = None
) -> Change:
    """Make the champion before the present one champion again, and return the change.

    Raises:
        InputError: there was none, it was deleted, or it does not load.
        HeadstartError: the champion was changed by somebody else meanwhile.
    """
    with opened(workspace) as client:
        return promotion.rollback(client, model, reason=reason, force=force)


def history(model: str, *, workspace: str | Path | None = None) -> list[Change]:
    """Return who made which version of a model its champion, when and why, newest first.

    Raises:
        InputError: there is no such model.
    """
    with opened(workspace) as client:
        return list(reversed(read_history(client, model).changes))


def lineage(model: str, *, workspace: str | Path | None = None) -> dict[str, Any]:
    """Return what a model came from and what came from it, as JSON values.

    Keys: uri, model, version, digest, role, strategy, aliases, status; `source`, the same of its source or None; and
    `descendants`, the same of each, nested.

    Args:
        model: a name, `name/version`, `models:/name@alias`, or the address of a source outside of the registry.
        workspace: as for `load`.

    Raises:
        InputError: no registered model has that name or descends from that address.
    """
    uri = model if "://" in model or model.startswith(REGISTRY) else f"{REGISTRY}{model}"
    with opened(workspace) as client:
        return family.lineage(client, uri)


def diff(one: str, other: str, *, data: str | Path | None = None, workspace: str | Path | None = None) -> Difference:
    """Say what changed from one registered version to another: the settings that they were made with, and what both
    make of the other's test samples that neither was trained on.

    Args:
        one, other: `models:/name@alias`, `models:/name/version`, `name/version`, or a name: its champion, else its
            latest version.
        data: the packed data set that the other was tested on, where it is no longer at its recorded path.
        workspace: as for `load`.

    Raises:
        InputError: there is no such version, or `data` does not have the other's test split.
    """
    uris = [each if each.startswith(REGISTRY) else f"{REGISTRY}{each}" for each in (one, other)]
    with opened(workspace) as client:
        return difference(client, *uris, data=None if data is None else Path(data))


def monitor(
    model: str,
    data: str | Path,
    *,
    reference: str | Path | None = None,
    tolerance: float = TOLERANCE,
    workspace: str | Path | None = None,
) -> Monitoring:
    """Say whether new samples are as those that a model was tested on, and with labels, whether it is still as good.

    `state` is `as before`, `drifted` or `worse`; the result is a run of the experiment `monitoring`.

    Args:
        model: `models:/name@alias`, `models:/name/version`, or a name: its champion, else its latest version.
        data: new samples, as for `prepare`; a folder without class folders has no labels.
        reference: the packed data set that it was tested on, where the version keeps no features of its test samples
            and the data set is no longer at its recorded path.
        tolerance: how much better than chance a classifier may tell new samples from old ones, 0 to 0.5.
        workspace: as for `load`.

    Raises:
        InputError: there is no such version, it has no evidence, its packed data set is gone, or the samples are not
            usable or too few.
    """
    uri = model if model.startswith(REGISTRY) else f"{REGISTRY}{model}"
    with opened(workspace) as client:
        place = None if reference is None else Path(reference)
        return monitor_version(client, uri, str(data), reference=place, tolerance=tolerance)


def _policy(given: str | Path | Mapping[str, Any] | None) -> Any:
    if given is None:
        return Policy()
    return Policy.of(given) if isinstance(given, Mapping) else load_policy(Path(given))
