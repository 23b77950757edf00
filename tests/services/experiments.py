"""Experiments of many evaluated pipeline runs, written quickly."""

import random
from concurrent.futures import ThreadPoolExecutor

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from headstart.tracking.names import CHOSEN, PARENT_RUN, PIPELINE_RUN, ROLE, SENTENCE, SOURCE_MODEL, STRATEGY
from headstart.tracking.runs import experiment_named

STRATEGIES = ("full", "partial", "zero", "scratch", "classical")
BASELINES = ("scratch", "classical")
_EVALUATED_METRICS = ("test/macro_precision", "test/macro_recall", "test/ece", "time/seconds", "val/best_accuracy")


def write_experiment(client: MlflowClient, name: str, *, runs: int, metrics: int) -> dict[str, dict[str, float]]:
    """Evaluated runs, `len(STRATEGIES)` to a pipeline run, with so many metrics each: these, by the runs' ids."""
    experiment_id = experiment_named(client, name)

    def write(number: int) -> dict[str, dict[str, float]]:
        parent = _write_run(client, experiment_id, f"{name}-{number:03}", {PIPELINE_RUN: f"{name}-{number}"}, {})
        written = {}
        for strategy in STRATEGIES:
            figures = _figures(f"{number} {strategy}", baseline=strategy in BASELINES, count=metrics)
            tags = {
                PARENT_RUN: parent,
                STRATEGY: strategy,
                ROLE: "baseline" if strategy in BASELINES else "target",
                CHOSEN: str(strategy == "full").lower(),
            }
            if strategy not in BASELINES:
                tags[SOURCE_MODEL] = "models:/many-source/1"
            written[_write_run(client, experiment_id, strategy, tags, figures)] = figures
        answer = {STRATEGY: "full", SENTENCE: f"helped: in pipeline run {number}."}
        client.log_batch(
            parent,
            metrics=[Metric("test/macro_f1", 0.5, 0, 0)],
            tags=[RunTag(key, value) for key, value in answer.items()],
        )
        return written

    with ThreadPoolExecutor(4) as pool:
        *earlier, latest = range(runs // len(STRATEGIES))
        written = list(pool.map(write, earlier))
    # By itself, as what starts last is the latest.
    return {run_id: figures for family in (*written, write(latest)) for run_id, figures in family.items()}


def _figures(seed: str, *, baseline: bool, count: int) -> dict[str, float]:
    draw = random.Random(seed).random  # noqa: S311 (figures, not secrets)
    accuracy = draw()
    figures = {"test/accuracy": accuracy, "test/accuracy_low": accuracy - 0.02, "test/accuracy_high": accuracy + 0.02}
    figures |= {"test/macro_f1": draw()} | {name: draw() for name in _EVALUATED_METRICS}
    if not baseline:
        gain = draw() - 0.5
        figures |= {"gain/accuracy": gain, "gain/accuracy_low": gain - 0.05, "gain/accuracy_high": gain + 0.05}
    return figures | {f"other/{number:02}": draw() for number in range(count - len(figures))}


def _write_run(
    client: MlflowClient, experiment_id: str, name: str, tags: dict[str, str], figures: dict[str, float]
) -> str:
    run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    client.log_batch(run_id, metrics=[Metric(key, value, 0, 0) for key, value in figures.items()])
    return run_id
