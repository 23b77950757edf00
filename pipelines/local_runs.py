"""Runs of this machine, read from the workspace's record, log files and reports."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from headstart.errors import InputError
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import PARENT_RUN, PIPELINE_RUN, SENTENCE
from headstart_pipelines import display

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow's words for a run's state, as the cluster's runs have them.
_STATES = {"FINISHED": "succeeded", "FAILED": "failed", "KILLED": "interrupted", "RUNNING": "running"}


@explained()
def list_runs(client: "MlflowClient", *, experiment: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the latest runs as JSON values: run, recipe, state, started (UTC), seconds, verdict and run_id.

    Raises:
        InputError: there is no experiment of that name.
    """
    rows = []
    for run, recipe in _parents(client, experiment):
        rows.append(_row(run, recipe))
        if len(rows) == limit:
            break
    return rows


@explained()
def read_run(client: "MlflowClient", workspace: Path, name: str) -> dict[str, Any]:
    """Return one run, by its name or id: as `list_runs`, with its steps (step, state, seconds), log and report.

    Raises:
        InputError: there is none.
    """
    for run, recipe in _parents(client, None):
        if name not in (run.info.run_name, run.info.run_id):
            continue
        children = search_all(
            client.search_runs,
            [run.info.experiment_id],
            f"tags.`{PARENT_RUN}` = '{run.info.run_id}'",
            order_by=["attributes.start_time ASC"],
        )
        steps = [
            {"step": each.info.run_name, "state": _state(each), "seconds": _seconds(each), "run_id": each.info.run_id}
            for each in children
        ]
        files = {"log": workspace / "logs" / f"{run.info.run_name}.log"}
        files["report"] = workspace / "reports" / f"{run.info.run_name}.html"
        found = {key: str(path) if path.is_file() else None for key, path in files.items()}
        return {**_row(run, recipe), "steps": steps, **found}
    raise InputError(f"There is no run {name} in this record; headstart runs lists them.")


def log_of(workspace: Path, name: str) -> Path:
    """Return the log of a run, or of a recipe's latest run.

    Raises:
        InputError: there is none.
    """
    return _file_of(workspace / "logs", "*-*.log", "log", name)


def report_of(workspace: Path, name: str | None) -> Path:
    """Return the report of a run, of a recipe's latest run, or for None of the latest run of all.

    Raises:
        InputError: there is none.
    """
    return _file_of(workspace / "reports", "*.html", "report", name)


def _file_of(folder: Path, pattern: str, what: str, name: str | None) -> Path:
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    # A run is called by its recipe's name and its time.
    chosen = [path for path in found if name in (None, path.stem, path.stem.rsplit("-", 3)[0])]
    if not chosen:
        known = ", ".join(path.stem for path in reversed(found[-5:])) or "none"
        which = f" of {name}" if name else ""
        raise InputError(f"There is no {what}{which} in {folder}; the latest there are: {known}.")
    return chosen[-1]


def runs_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows of `list_runs`; fits into 80 columns."""
    table = display.table(
        Column("run", overflow="fold"),
        Column("state", no_wrap=True),
        Column("started (UTC)", no_wrap=True),
        Column("s", justify="right", no_wrap=True),
        Column("verdict", no_wrap=True),
    )
    for row in rows:
        table.add_row(
            display.plain(row["run"]),
            row["state"],
            display.minute(row["started"]),
            _shown(row["seconds"]),
            display.plain(row["verdict"] or ""),
        )
    return table


def steps_table(run: dict[str, Any]) -> Table:
    """The steps of `read_run`'s answer."""
    table = display.table("step", "state", Column("s", justify="right"), title=display.plain(run["run"]))
    for step in run["steps"]:
        table.add_row(display.plain(step["step"]), step["state"], _shown(step["seconds"]))
    return table


def _parents(client: "MlflowClient", experiment: str | None) -> "Iterator[tuple[Run, str]]":
    """The pipeline runs of the experiments, latest first, each with its recipe's name."""
    names = {each.experiment_id: each.name for each in search_all(client.search_experiments)}
    if experiment is not None:
        names = {key: name for key, name in names.items() if name == experiment}
        if not names:
            raise InputError(f"There is no experiment {experiment} in this record; headstart runs lists all runs.")
    runs = search_all(
        client.search_runs, list(names), f"tags.`{PIPELINE_RUN}` LIKE '%'", order_by=["attributes.start_time DESC"]
    )
    return ((run, names[run.info.experiment_id]) for run in runs if PARENT_RUN not in run.data.tags)


def _row(run: "Run", recipe: str) -> dict[str, Any]:
    sentence = run.data.tags.get(SENTENCE)
    return {
        "run": run.info.run_name,
        "recipe": recipe,
        "state": _state(run),
        "started": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        "seconds": _seconds(run),
        "verdict": sentence.partition(":")[0] if sentence else None,
        "run_id": run.info.run_id,
    }


def _state(run: "Run") -> str:
    return _STATES.get(run.info.status, run.info.status.lower())


def _seconds(run: "Run") -> float | None:
    return (run.info.end_time - run.info.start_time) / 1000 if run.info.end_time else None


def _shown(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f}"
