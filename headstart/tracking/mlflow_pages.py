"""Addresses of MLflow's pages.

Each function gives the part that follows the server's address, `#/…`. As it stands it is a link that works in the
descriptions that MLflow's own page shows, whatever the address under which a browser reaches the server.
"""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from headstart.credentials import without_password
from headstart.tracking.names import PARENT_RUN, STRATEGY

# Without it, MLflow's page shows itself as one for agents and their traces.
_WORKFLOW = {"workflowType": "machine_learning"}


def address(server: str, page: str) -> str:
    """The whole address of a page of the server at an http(s) URI, without the password that it may hold."""
    return f"{without_password(server).rstrip('/')}/{page}"


def runs_page(experiment_id: str) -> str:
    """The table of an experiment's runs."""
    return f"#/experiments/{experiment_id}/runs?{_query(_WORKFLOW)}"


def charts_page(experiment_id: str, parent_id: str, metric: str) -> str:
    """A chart of each metric of the parent's strategies and baselines, those with the best test metric first.

    The source's run is left out, as its test split is another one.
    """
    query = {
        "searchFilter": f"tags.`{PARENT_RUN}` = '{parent_id}' and tags.`{STRATEGY}` LIKE '%'",
        # Sorted by their start, children would be folded away under their parent.
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    return f"#/experiments/{experiment_id}/runs?{_query(query | _WORKFLOW)}"


def compare_page(experiment_id: str, run_ids: Sequence[str]) -> str:
    """The parameters and metrics of the runs side by side."""
    return f"#/compare-runs?{_query({'runs': list(run_ids), 'experiments': [experiment_id], **_WORKFLOW})}"


def curves_page(experiment_id: str, run_ids: Sequence[str], key: str) -> str:
    """The course of the metric `key` of the runs, epoch by epoch."""
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
    """The registered models."""
    return f"#/models?{_query(_WORKFLOW)}"


def version_page(model: str, version: str) -> str:
    """A version of a registered model."""
    return f"#/models/{quote(model, safe='')}/versions/{quote(version, safe='')}?{_query(_WORKFLOW)}"


def _query(values: Mapping[str, object]) -> str:
    """A query string; what is not text is written as JSON, as MLflow's page reads it."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }
    return urlencode(texts, quote_via=quote, safe="")
