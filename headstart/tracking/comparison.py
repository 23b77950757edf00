"""The leaderboard of an experiment, read back from its MLflow runs."""

from typing import TYPE_CHECKING, Any

from headstart.errors import InputError
from headstart.evaluation.metrics import METRICS
from headstart.tracking.client import explained
from headstart.tracking.names import PARENT_RUN, SOURCE_MODEL, STRATEGY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def compare(
    client: "MlflowClient", experiment: str, *, sort: str | None = None, every_run: bool = False
) -> list[dict[str, Any]]:
    """One mapping a strategy or baseline of the latest evaluated pipeline run, best first.

    Keys: strategy, source, <metric>, <metric>_low, <metric>_high, macro_f1, gain, gain_low, gain_high (None for
    baselines), seconds, run_id. `every_run` takes all pipeline runs of the experiment. `sort` is one of the keys; by
    default the metric that the experiment was judged by.

    Raises:
        InputError: no such experiment, nothing evaluated in it, or no such key to sort by.
    """
    with explained():
        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = ", ".join(sorted(e.name for e in client.search_experiments() if e.name != "Default")) or "none"
            raise InputError(f"There is no experiment {experiment!r}; the experiments here are: {known}.")
        runs = _evaluated(client, found.experiment_id)
    if not runs:
        raise InputError(f"Nothing was evaluated in {experiment!r} yet; finish a run with `headstart run`.")
    if not every_run:
        latest = runs[0].data.tags.get(PARENT_RUN)
        runs = [run for run in runs if run.data.tags.get(PARENT_RUN) == latest]
    rows = [_row(run) for run in runs]
    key = sort or _judged_by(runs[0])
    if not any(key in row for row in rows):
        raise InputError(f"There is nothing called {key!r} to sort by; choose one of {', '.join(rows[0])}.")
    ascending = key in ("strategy", "source", "run_id", "seconds")

    def order(row: dict[str, Any]) -> tuple[bool, Any]:
        value = row.get(key)
        if value is None:
            return (True, 0)
        return (False, value if ascending else -value)

    return sorted(rows, key=order)


def _evaluated(client: "MlflowClient", experiment_id: str) -> list["Run"]:
    """Every run of a strategy or baseline that has a test metric, latest first."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            f"tags.`{STRATEGY}` LIKE '%' and metrics.`test/macro_f1` >= 0",
            max_results=1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs.extend(run for run in page if PARENT_RUN in run.data.tags)
        token = page.token
        if not token:
            return runs


def _judged_by(run: "Run") -> str:
    return next((name for name in METRICS if f"test/{name}_low" in run.data.metrics), "accuracy")


def _row(run: "Run") -> dict[str, Any]:
    metric, metrics = _judged_by(run), run.data.metrics
    return {
        "strategy": run.data.tags[STRATEGY],
        "source": run.data.tags.get(SOURCE_MODEL),
        metric: metrics.get(f"test/{metric}"),
        f"{metric}_low": metrics.get(f"test/{metric}_low"),
        f"{metric}_high": metrics.get(f"test/{metric}_high"),
        "macro_f1": metrics.get("test/macro_f1"),
        "gain": metrics.get(f"gain/{metric}"),
        "gain_low": metrics.get(f"gain/{metric}_low"),
        "gain_high": metrics.get(f"gain/{metric}_high"),
        "seconds": metrics.get("time/seconds"),
        "run_id": run.info.run_id,
    }
