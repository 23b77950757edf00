"""Evaluation step: judge the contenders, record the result and write its files."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.judging.assessment import Assessment, evaluate, evidence
from headstart.judging.combination import combined
from headstart.judging.contenders import Contender
from headstart.judging.diagnostics import diagnose, headline_facts
from headstart.judging.evidence import EVIDENCE
from headstart.judging.report.page import report
from headstart.judging.savings import savings
from headstart.judging.section import Evaluation
from headstart.judging.selection import RANKING
from headstart.metrics.classification import confused
from headstart.metrics.intervals import Interval
from headstart.metrics.task import REGRESSION
from headstart.models.reference import numbered, unpinned
from headstart.storage.local import write_json, write_text
from headstart.tracking.client import explained, shown_to_people
from headstart.tracking.evaluation_record import record_assessment
from headstart.tracking.looks import look, seen_before
from headstart.tracking.names import MODEL_DIGEST, ROLE
from headstart.tracking.registry import find_version
from headstart.tracking.runs import Run
from headstart.training.section import Training


class Outputs(NamedTuple):
    """Paths of the step's output files."""

    predictions: Path
    leaderboard: Path
    report: Path
    winner: Path
    confusion: Path
    metrics: Path


def read_selection(source: Path, digest: str, version: str) -> dict[str, Any]:
    """Return the record of how the source in this folder was selected, with its `digest` and `version`: its pinned
    reference if this pipeline run registered it, otherwise ""."""
    return {**json.loads(numbered((source / RANKING).read_text(), version)), "digest": digest, "version": version}


def evaluate_and_record(
    run: Run,
    contenders: Sequence[Contender],
    dataset: Dataset,
    source: Path,
    selection: Mapping[str, Any],
    recipe: Mapping[str, Any],
    outputs: Outputs,
    *,
    address: str,
) -> Assessment:
    """Judge all contenders and their combinations on the test split and write the results to MLflow and to files.

    The winner is the contender that is delivered; its evidence is written to the folder `evidence` of its bundle.

    Args:
        source: the bundle that the strategies started from.
        selection: the result of `read_selection`.
        recipe: its name and seed and its sections evaluation, training and strategies.
        address: the data set's address for other readers.

    Returns:
        The assessment with the ids of the runs written to.
    """
    evaluation = Evaluation.of(recipe["evaluation"], at="evaluation").for_task(dataset.task)
    run.log_data(dataset, ("test",))
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        contenders = [*contenders, *combined(contenders, evaluation, Path(place))]
        assessment = evaluate(contenders, dataset, outputs.predictions, evaluation=evaluation, seed=recipe["seed"])
        assessment, page, intervals = _examine(run, assessment, dataset, source, selection, recipe)
        write_text(outputs.report, page)
        version = selection["version"]
        assessment = record_assessment(
            run, assessment, page, outputs.predictions, intervals=intervals, dataset=dataset, source_version=version
        )
        write_text(outputs.leaderboard, assessment.leaderboard.to_json())
        shutil.copytree(assessment.delivered.path, outputs.winner, dirs_exist_ok=True)
        # A combination's own place ends with this block.
        delivered = replace(assessment.delivered, path=outputs.winner)
        others = (each for each in assessment.contenders if each.strategy != delivered.strategy)
        assessment = replace(assessment, contenders=(*others, delivered))
    evidence(assessment, dataset, report=page, address=address).save(outputs.winner / EVIDENCE)
    found = assessment.metrics[assessment.chosen.strategy]
    write_json(outputs.confusion, confused(dataset.classes, found["confusion"]) if "confusion" in found else {})
    write_json(outputs.metrics, assessment.summary)
    return assessment


def _examine(
    run: Run,
    assessment: Assessment,
    dataset: Dataset,
    source: Path,
    selection: Mapping[str, Any],
    recipe: Mapping[str, Any],
) -> tuple[Assessment, str, Mapping[str, Interval]]:
    """Record the diagnostics of the chosen contender, and return the assessment with the facts that they tell, the page
    about it and the intervals of its metrics."""
    diagnostics = diagnose(
        assessment,
        dataset,
        source,
        evaluation=Evaluation.of(recipe["evaluation"], at="evaluation"),
        training=Training.of(recipe["training"], at="training"),
        strategies=recipe["strategies"],
        seed=recipe["seed"],
    )
    # Of an error nobody has said yet how much more of it is worth how many seconds.
    saved = (
        {}
        if dataset.task == REGRESSION
        else savings(assessment, dataset, recipe["strategies"], pretraining=_pretraining_seconds(run, selection))
    )
    facts = {**headline_facts(assessment, diagnostics, dataset), **_looked_at(run, dataset)}
    assessment = replace(assessment.with_facts(facts), savings=saved)
    run.log_page("examination.json", diagnostics.to_json())
    page = report(
        assessment,
        diagnostics,
        dataset,
        experiment=recipe["name"],
        source=selection,
        run_id=run.parent_id or run.id,
        tracking_uri=shown_to_people(run.client.tracking_uri),
    )
    return assessment, page, diagnostics.intervals


def _looked_at(run: Run, dataset: Dataset) -> dict[str, str]:
    """Record that the pipeline run has looked at the test split; return what the page says from the second look on."""
    sentence = seen_before(look(run, dataset.split_digest("test")))
    return {"test_seen_before": sentence} if sentence else {}


@explained()
def _pretraining_seconds(run: Run, selection: Mapping[str, Any]) -> float | None:
    """Return the seconds of the source's pretraining, from the run that recorded its digest, in this experiment or in
    that of its registered version; None if there is none, as for published weights."""
    experiments, client = [run.experiment_id], run.client
    with suppress(InputError):
        if unpinned(selection["source"]).startswith("models:/"):
            made_by = find_version(client, selection["source"]).run_id
            experiments += [client.get_run(made_by).info.experiment_id] if made_by else []
    made = f"tags.`{MODEL_DIGEST}` = '{selection['digest']}' and tags.`{ROLE}` = 'source'"
    runs = client.search_runs(list(dict.fromkeys(experiments)), made, order_by=["attributes.start_time ASC"])
    return next((each.data.metrics["time/seconds"] for each in runs if "time/seconds" in each.data.metrics), None)
