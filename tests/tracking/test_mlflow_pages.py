import json
from urllib.parse import parse_qs, urlsplit

import pytest

from headstart.tracking import mlflow_pages

RUNS = ["a" * 32, "b" * 32]


def query(page):
    """What MLflow's page reads from the address: its router looks at what follows the #."""
    return {key: values[0] for key, values in parse_qs(urlsplit(page.removeprefix("#")).query).items()}


def test_the_compare_page_is_told_its_runs_as_json():
    page = mlflow_pages.compare_page("7", RUNS)
    assert page.startswith("#/compare-runs?")
    assert json.loads(query(page)["runs"]) == RUNS
    assert json.loads(query(page)["experiments"]) == ["7"]


def test_the_curves_are_of_one_metric_over_its_steps():
    told = query(mlflow_pages.curves_page("7", RUNS, "val/accuracy"))
    assert json.loads(told["runs"]) == RUNS
    assert (json.loads(told["metric"]), json.loads(told["plot_metric_keys"])) == ("val/accuracy", ["val/accuracy"])
    assert told["x_axis"] == "step"


def test_the_charts_are_of_the_strategies_of_one_parent_best_first():
    told = query(mlflow_pages.charts_page("7", RUNS[0], "macro_f1"))
    assert told["searchFilter"] == f"tags.`mlflow.parentRunId` = '{RUNS[0]}' and tags.`headstart.strategy` LIKE '%'"
    assert (told["orderByKey"], told["orderByAsc"]) == ("metrics.`test/macro_f1`", "false")
    assert told["compareRunsMode"] == "CHART"


@pytest.mark.parametrize(
    "page",
    [
        mlflow_pages.runs_page("7"),
        mlflow_pages.charts_page("7", RUNS[0], "accuracy"),
        mlflow_pages.compare_page("7", RUNS),
        mlflow_pages.curves_page("7", RUNS, "val/loss"),
        mlflow_pages.models_page(),
        mlflow_pages.version_page("pets-target", "3"),
    ],
)
def test_every_page_is_the_one_for_training_and_can_be_copied_whole(page):
    assert query(page)["workflowType"] == "machine_learning"
    assert not set(page) & set(" \"'`()[]{}<>|\\")


def test_a_model_whose_name_means_something_in_an_address_keeps_its_page():
    assert mlflow_pages.version_page("a/b?c#d", "1").startswith("#/models/a%2Fb%3Fc%23d/versions/1?")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/models"),
        ("https://records.example/mlflow/", "https://records.example/mlflow/#/models"),
        ("https://ann:secret@records.example", "https://records.example/#/models"),
    ],
)
def test_an_address_keeps_the_servers_path_and_drops_its_password(server, expected):
    assert mlflow_pages.address(server, mlflow_pages.models_page()).partition("?")[0] == expected
