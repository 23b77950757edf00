"""What a person sees in the browser: MLflow's pages on the record of one run of the pipeline `transfer`.

HEADSTART_SCREENSHOTS names a folder that keeps a picture of each page.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, expect

from headstart.tracking import mlflow_pages, names
from tests.services.conftest import FinishedRun
from tests.services.stack import Stack

pytestmark = pytest.mark.services

# A page is drawn by JavaScript from several requests, on a machine that may be busy.
SECONDS = 60

Show = Callable[[str, str], Page]


@pytest.fixture
def show(browser: Browser, stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page by its address after the server's; takes its picture when the test is done."""
    folder = Path(os.environ.get("HEADSTART_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(
        http_credentials={"username": "admin", "password": stack.password}, viewport={"width": 1300, "height": 900}
    )
    context.set_default_timeout(SECONDS * 1000)
    expect.set_options(timeout=SECONDS * 1000)
    page = context.new_page()
    # The first visit to the registry is greeted by a dialog.
    dialog = page.get_by_role("dialog")
    page.add_locator_handler(dialog, lambda: dialog.get_by_role("button", name="Close").click())
    opened: list[str] = []

    def opener(name: str, address: str) -> Page:
        opened.append(name)
        page.goto(mlflow_pages.address(stack.uri, address))
        # The panel of MLflow's assistant covers a quarter of the first page that a browser opens.
        close = page.get_by_role("button", name="Close").first
        close.or_(page.get_by_text("Model training").first).first.wait_for()
        if close.is_visible():
            close.click()
        return page

    yield opener
    for name in opened:
        page.screenshot(path=folder / f"{name}.png")
    context.close()


@pytest.fixture
def experiment_id(finished_run: FinishedRun, record: MlflowClient) -> str:
    return record.get_experiment_by_name(finished_run.experiment).experiment_id


def test_the_experiment_is_in_the_list(show: Show, finished_run: FinishedRun) -> None:
    page = show("experiments", "#/experiments?workflowType=machine_learning")
    expect(page.get_by_role("link", name=finished_run.experiment, exact=True)).to_be_visible()


def test_the_run_says_what_came_of_it_and_leads_to_its_children(
    show: Show, finished_run: FinishedRun, record: MlflowClient, experiment_id: str
) -> None:
    parent = finished_run.parent(record)
    page = show("run", f"#/experiments/{experiment_id}/runs/{parent.info.run_id}?workflowType=machine_learning")
    expect(page.get_by_text("Finished").first).to_be_visible()
    for child in ("full", "partial", "zero", "scratch", "classical"):
        expect(page.get_by_role("link", name=child, exact=True)).to_be_visible()
    expect(
        page.get_by_text(re.compile("(gains|loses) .* accuracy (over|against) (scratch|classical)")).first
    ).to_be_attached()


def test_the_curves_of_the_strategies_are_drawn_over_their_epochs(
    show: Show, finished_run: FinishedRun, record: MlflowClient, experiment_id: str
) -> None:
    children = finished_run.children(record)
    ids = [children[name].info.run_id for name in ("full", "partial", "scratch")]
    page = show("curves", mlflow_pages.curves_page(experiment_id, ids, "val/accuracy"))
    expect(page.locator(".js-plotly-plot .scatterlayer .js-line").first).to_be_visible()
    for name in ("full", "partial", "scratch"):
        expect(page.get_by_text(f"{name} (val/accuracy)")).to_be_visible()


def test_the_children_are_compared_in_charts(
    show: Show, finished_run: FinishedRun, record: MlflowClient, experiment_id: str
) -> None:
    parent = finished_run.parent(record)
    page = show("compare", mlflow_pages.charts_page(experiment_id, parent.info.run_id, "accuracy"))
    page.get_by_placeholder("Search metric charts").fill("test/accuracy")
    expect(page.get_by_text("test/accuracy", exact=True).first).to_be_visible()
    for child in ("full", "partial", "scratch"):
        expect(page.get_by_text(child, exact=True).first).to_be_attached()


def test_the_runs_are_compared_side_by_side(
    show: Show, finished_run: FinishedRun, record: MlflowClient, experiment_id: str
) -> None:
    children = finished_run.children(record)
    ids = [children[name].info.run_id for name in ("full", "partial", "zero", "scratch", "classical")]
    page = show("side-by-side", mlflow_pages.compare_page(experiment_id, ids))
    expect(page.get_by_text("Comparing 5 Runs from 1 Experiment")).to_be_visible()
    expect(page.get_by_text("gain/accuracy", exact=True).first).to_be_attached()


def test_the_registered_models_are_listed_with_their_aliases(show: Show, finished_run: FinishedRun) -> None:
    page = show("models", mlflow_pages.models_page())
    for role in ("source", "target"):
        expect(page.get_by_role("link", name=f"{finished_run.experiment}-{role}")).to_be_visible()
    expect(page.get_by_text("challenger").first).to_be_visible()


def test_a_version_shows_its_alias_its_description_and_its_lineage(show: Show, finished_run: FinishedRun) -> None:
    page = show("version", mlflow_pages.version_page(f"{finished_run.experiment}-target", "1"))
    expect(page.get_by_text("challenger").first).to_be_visible()
    # The Markdown is drawn, not shown as it was written.
    expect(page.get_by_role("heading", name="How good it is")).to_be_visible()
    expect(page.get_by_role("link", name=f"models:/{finished_run.experiment}-source/1")).to_be_visible()
    expect(page.get_by_text(names.SOURCE_DIGEST, exact=True)).to_be_attached()
    # The run that it came of, and the logged model, which is called as the strategy is.
    strategy = finished_run.leaderboard.chosen.strategy
    expect(page.get_by_role("link", name=strategy, exact=True).and_(page.locator("[href*='/runs/']"))).to_be_visible()
    expect(page.get_by_test_id("source-model-link")).to_have_text(strategy)
