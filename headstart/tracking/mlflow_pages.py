"""Addresses of MLflow's pages.

Each function returns the part after the server's address, `#/…`. As a relative link it works in the descriptions that
MLflow's own page shows, whatever address the browser uses for the server.
"""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from headstart.credentials import without_password
from headstart.tracking.names import PARENT_RUN, STRATEGY

# Without it, MLflow opens its pages for agents and traces.
_WORKFLOW = {"workflowType": "machine_learning"}


def address(server: str, page: str) -> str:
    """Return the absolute address of a page on the server at an http(s) URI, without a password."""
    return f"{without_password(server).rstrip('/')}/{page}"


def runs_page(experiment_id: str, *, search: str = "") -> str:
    """Return the page with the table of an experiment's runs, or of those that a filter finds, latest first."""
    query = {"searchFilter": search} if search else {}
    return f"#/experiments/{experiment_id}/runs?{_query(query | _WORKFLOW)}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the page of a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_query(_WORKFLOW)}"


def charts_page(experiment_id: str, parent_id: str, metric: str) -> str:
    """Return the page that charts each metric of the parent's strategies and baselines, best test metric first.

    The source's run is left out, because its test split is a different one.
    """
    query = {
        "searchFilter": f"tags.`{PARENT_RUN}` = '{parent_id}' and tags.`{STRATEGY}` LIKE '%'",
        # Sorted by start time, children would be collapsed below their parent.
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    return f"#/experiments/{experiment_id}/runs?{_query(query | _WORKFLOW)}"


def compare_page(experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the page that compares the parameters and metrics of the runs."""
    return f"#/compare-runs?{_query({'runs': list(run_ids), 'experiments': [experiment_id], **_WORKFLOW})}"


def curves_page(experiment_id: str, run_ids: Sequence[str], key: str) -> str:
    """Return the page that plots the metric `key` of the runs by epoch."""
    query = {
        "runs": list(run_ids),
        "metric": json.dumps(key),
        "experiments": [experiment_id],
        "plot_metric_keys": [key],
        "plot_layout": {},
        "x_axis": "step",
    }
    return f"#/metric?{_query({**query, **_WORKFLOW})}"


def models_page() -> str:
    """Return the page of the registered models."""
    return f"#/models?{_query(_WORKFLOW)}"


def version_page(model: str, version: str) -> str:
    """Return the page of a version of a registered model."""
    return f"#/models/{quote(model, safe='')}/versions/{quote(version, safe='')}?{_query(_WORKFLOW)}"


def _query(values: Mapping[str, object]) -> str:
    """Return a query string; values other than text are JSON, as MLflow's page reads them."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }
    return urlencode(texts, quote_via=quote, safe="")
