"""Description of an experiment in MLflow's page: what its runs are, what to open and how to compare."""

from typing import TYPE_CHECKING

from headstart.metrics.metric import metric_title
from headstart.tracking.client import explained
from headstart.tracking.mlflow_pages import models_page, runs_page
from headstart.tracking.names import CHOSEN, NOTE, PIPELINE_RUN

if TYPE_CHECKING:
    from mlflow import MlflowClient


@explained()
def describe_experiment(client: "MlflowClient", experiment_id: str, metric: str) -> None:
    """Write the description of an experiment that has none; a text that somebody wrote stays."""
    if not client.get_experiment(experiment_id).tags.get(NOTE):
        client.set_experiment_tag(experiment_id, NOTE, experiment_note(experiment_id, metric))


def experiment_note(experiment_id: str, metric: str) -> str:
    """Return the description in Markdown, with links that work whatever the server's address is."""
    pipelines = runs_page(experiment_id, search=f"tags.`{PIPELINE_RUN}` LIKE '%'")
    contenders = runs_page(experiment_id, search=f"tags.`{CHOSEN}` LIKE '%'")
    lines = (
        f"**What came of it:** open a [pipeline run]({pipelines}). Its description gives the verdict and leads to "
        "charts of its strategies and baselines; its artifacts hold `report.html` and `leaderboard.svg`.",
        f"**How a model learned and where it errs:** open one of the [strategies and baselines]({contenders}); its "
        "artifacts hold `learning_curve.svg` and `confusion.svg`.",
        f"**To compare:** tick strategies there and press *Compare*. `test/{metric}` is the {metric_title(metric)} "
        f"that decides, between `test/{metric}_low` and `test/{metric}_high`; `gain/{metric}` is what a strategy "
        "gains over the same network trained from scratch.",
        f"**To use a model:** the [registered models]({models_page()}) say what they are and how good they are.",
    )
    return "\n".join(f"- {line}" for line in lines)
