"""Leaderboard of an experiment, read from its MLflow runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.metrics.metric import METRICS
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import (
    CHOSEN,
    DELIVERED,
    FACTS,
    MEMBERS,
    PARENT_RUN,
    SAME_AS,
    SENTENCE,
    SOURCE_MODEL,
    STRATEGY,
)

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Filters for runs that `evaluate` has written to, of classes and of numbers, as MLflow's know no "or"; a parent run is
# one of them.
_EVALUATED = tuple(f"tags.`{STRATEGY}` LIKE '%' and metrics.`test/{name}` >= 0" for name in ("macro_f1", "rmse"))
# What a strategy saves against scratch, to the same validation metric.
SAVINGS = {
    "seconds_saved": "saving/seconds",
    "flops_saved": "saving/flops",
    "pretraining_seconds": "saving/pretraining_seconds",
    "pays_after_targets": "saving/targets",
}
_NEWEST_FIRST = ["attributes.start_time DESC"]
_EXPERIMENTS_NAMED = 20


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard: one strategy or baseline."""

    figures: dict[str, Any]
    """strategy, source, <metric>, <metric>_low, <metric>_high, macro_f1, gain, gain_low, gain_high (over scratch),
    gain_over_best and its bounds, seconds, run_id, same_as, members, and the keys of SAVINGS; None is what is not
    known, as the gains of baselines"""
    parent_id: str
    pipeline_run: str
    """the name of the parent run"""
    chosen: bool
    """whether its pipeline run chose it as the winner"""


@dataclass(frozen=True)
class Comparison:
    """The evaluated strategies and baselines of an experiment, best first."""

    experiment_id: str
    metric: str
    entries: tuple[Entry, ...]
    sentence: str | None
    """the verdict of the latest pipeline run"""
    delivered: str | None
    """the contender whose model that run handed over"""
    facts: tuple[str, ...] = ()
    """those that stand beside it"""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The entries' figures."""
        return [entry.figures for entry in self.entries]

    @property
    def table(self) -> "pd.DataFrame":
        """The rows as a DataFrame, best first; `chosen` marks the transfer that the verdict is about."""
        import pandas as pd

        return pd.DataFrame(self.rows).assign(chosen=[entry.chosen for entry in self.entries])

    def _repr_html_(self) -> str:
        shown = [self.metric, f"{self.metric}_low", f"{self.metric}_high", "gain_over_best", "seconds"]
        table = self.table[["strategy", *shown, "chosen"]].to_html(
            index=False, float_format=lambda value: f"{value:.3f}"
        )
        return f"<p>{escape(self.sentence or '')}</p>{table}"


@explained()
def compare(client: "MlflowClient", experiment: str, *, sort: str | None = None, every_run: bool = False) -> Comparison:
    """Return the strategies and baselines of the latest evaluated pipeline run, best first.

    The number of requests does not grow with the number of runs, as long as these fit on a page.

    Args:
        sort: a key of the figures; default: the metric.
        every_run: include all pipeline runs of the experiment, under the metric that the latest was judged by.

    Raises:
        InputError: there is no such experiment, nothing was evaluated in it, or there is no such key to sort by.
    """
    experiment_id = _experiment_id(client, experiment)
    parents, children = (_every if every_run else _latest)(client, experiment_id)
    if not children:
        raise InputError(f"Nothing was evaluated in {experiment!r} yet; finish a run with `headstart run`.")
    metric = _judged_by(children[0])
    entries = [_entry(run, metric, parents) for run in children]
    latest = parents.get(entries[0].parent_id)
    known = entries[0].figures
    if sort and sort not in known:
        raise InputError(f"There is nothing called {sort!r} to sort by; choose one of {', '.join(known)}.")
    return Comparison(
        experiment_id,
        metric,
        tuple(_sorted(entries, sort or metric)),
        latest.data.tags.get(SENTENCE) if latest else None,
        latest.data.tags.get(DELIVERED) if latest else None,
        tuple(latest.data.tags.get(FACTS, "").splitlines()) if latest else (),
    )


def _experiment_id(client: "MlflowClient", name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        latest = client.search_experiments(max_results=_EXPERIMENTS_NAMED, order_by=["last_update_time DESC"])
        known = ", ".join(sorted(each.name for each in latest if each.name != "Default")) or "none"
        raise InputError(f"There is no experiment {name!r}; the experiments here are: {known}.")
    if found.lifecycle_stage != "active":
        raise InputError(
            f"The experiment {name!r} was deleted; restore it in the MLflow page, or run its recipe again."
        )
    return found.experiment_id


def _latest(client: "MlflowClient", experiment_id: str) -> tuple[dict[str, "Run"], list["Run"]]:
    """Return the parent of the evaluated run that started last, and its evaluated children, latest first."""
    # `evaluate` marks what it has judged, whatever the task; others may write figures alone.
    for judged in (f"tags.`{CHOSEN}` LIKE '%'", _EVALUATED[0]):
        with_parent = f"{judged} and tags.`{PARENT_RUN}` LIKE '%'"
        newest = client.search_runs([experiment_id], with_parent, max_results=1, order_by=_NEWEST_FIRST)
        if newest:
            parent = client.get_run(newest[0].data.tags[PARENT_RUN])
            family = f"{judged} and tags.`{PARENT_RUN}` = '{parent.info.run_id}'"
            return {parent.info.run_id: parent}, list(
                search_all(client.search_runs, [experiment_id], family, order_by=_NEWEST_FIRST)
            )
    return {}, []


def _every(client: "MlflowClient", experiment_id: str) -> tuple[dict[str, "Run"], list["Run"]]:
    """Return the experiment's parents by id, and all evaluated children, latest first."""
    runs = [
        run
        for evaluated in _EVALUATED
        for run in search_all(client.search_runs, [experiment_id], evaluated, order_by=_NEWEST_FIRST)
    ]
    runs.sort(key=lambda run: run.info.start_time, reverse=True)
    children = [run for run in runs if PARENT_RUN in run.data.tags]
    return {run.info.run_id: run for run in runs if PARENT_RUN not in run.data.tags}, children


def _judged_by(run: "Run") -> str:
    return next((name for name in METRICS if f"test/{name}_low" in run.data.metrics), "accuracy")


def _entry(run: "Run", metric: str, parents: dict[str, "Run"]) -> Entry:
    tags, parent_id = run.data.tags, run.data.tags[PARENT_RUN]

    def figure(name: str) -> float | None:
        value = run.data.metrics.get(name)
        return value if value is not None and math.isfinite(value) else None

    figures = {
        "strategy": tags[STRATEGY],
        "source": tags.get(SOURCE_MODEL),
        metric: figure(f"test/{metric}"),
        f"{metric}_low": figure(f"test/{metric}_low"),
        f"{metric}_high": figure(f"test/{metric}_high"),
        **{name: found for name in ("macro_f1", "r2") if (found := figure(f"test/{name}")) is not None},
        "gain": figure(f"gain/{metric}"),
        "gain_low": figure(f"gain/{metric}_low"),
        "gain_high": figure(f"gain/{metric}_high"),
        "gain_over_best": figure(f"gain_over_best/{metric}"),
        "gain_over_best_low": figure(f"gain_over_best/{metric}_low"),
        "gain_over_best_high": figure(f"gain_over_best/{metric}_high"),
        "seconds": figure("time/seconds"),
        "run_id": run.info.run_id,
        "same_as": tags.get(SAME_AS) or None,
        "members": tags.get(MEMBERS) or None,
        **{key: figure(name) for key, name in SAVINGS.items()},
    }
    if (targets := figures["pays_after_targets"]) is not None:
        # MLflow's metrics are floats.
        figures["pays_after_targets"] = int(targets)
    parent = parents.get(parent_id)
    return Entry(figures, parent_id, parent.info.run_name if parent else parent_id, tags.get(CHOSEN) == "true")


def _sorted(entries: Sequence[Entry], key: str) -> list[Entry]:
    """Sort by the figure `key`: ascending for text, seconds and errors, descending for metrics, unknown values last."""
    ascending = key in ("strategy", "source", "run_id", "same_as", "members", "seconds", "pays_after_targets")
    ascending = ascending or (key in METRICS and METRICS[key].lower_is_better)

    def order(entry: Entry) -> tuple[bool, Any, Any]:
        value = entry.figures[key]
        # Ties are sorted by name, as in the leaderboard.
        name = entry.figures["strategy"]
        if value is None:
            return (True, 0, name)
        return (False, value if ascending else -value, name)

    return sorted(entries, key=order)
