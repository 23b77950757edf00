"""evaluate: every strategy and baseline on the target's test split, and the verdict."""

from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from headstart_components import component


@component
def evaluate(
    experiment: str,
    evaluation: dict,
    seed: int,
    dataset: Input[Dataset],
    source: Input[Model],
    models: Input[list[Model]],
    baselines: Input[Artifact],
    winner: Output[Model],
    leaderboard: Output[Artifact],
    predictions: Output[Dataset],
    confusion: Output[ClassificationMetrics],
    metrics: Output[Metrics],
    report: Output[HTML],
    training: dict = {},
    strategies: list[dict] = [],
    pretrained: str = "",
):
    """Judges all contenders on the same test samples.

    Args:
        experiment: the recipe's name.
        evaluation: the recipe's evaluation section.
        seed: of the bootstrap.
        dataset: the packed target data set.
        source: the source's bundle, with the ranking of the candidates.
        models: the strategies' bundles.
        baselines: what fit_baselines made.
        winner: the bundle of the strategy that validation chose, and in its folder `evidence` what speaks for it:
            figures, verdict, test predictions, the samples it was trained on.
        leaderboard: leaderboard.json.
        predictions: one Parquet file a contender, one row a test sample.
        confusion: the winner's confusion matrix.
        metrics: the winner's figures.
        report: the page with the verdict.
        training: the recipe's training section; evaluation.curve_training needs it.
        strategies: the recipe's strategies; likewise.
        pretrained: the registered version of the source that this pipeline run pretrained, or "" where it did not.
    """
    import json
    import shutil
    from pathlib import Path

    from headstart.artifacts import describe, described
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.judging import evaluate as evaluation_step
    from headstart.judging.evidence import EVIDENCE
    from headstart.judging.section import Evaluation
    from headstart.judging.selection import RANKING
    from headstart.models.bundle import bundle_digest
    from headstart.models.reference import numbered
    from headstart.storage.local import write_json, write_text
    from headstart.tracking.client import shown_to_people
    from headstart.tracking.evaluation_record import record_assessment
    from headstart.tracking.runs import step_run
    from headstart.training.section import Training

    packed = PackedDataset.open(Path(dataset.path))
    selection = json.loads(numbered((Path(source.path) / RANKING).read_text(), pretrained))
    contenders = [
        evaluation_step.Contender.from_metadata(Path(m.path), {**described(m), "source": selection["source"]})
        for m in models
    ]
    contenders += evaluation_step.read_baselines(Path(baselines.path))
    section = Evaluation.of(evaluation, at="evaluation")
    with step_run(experiment, "evaluate") as run:
        assessment = evaluation_step.evaluate(contenders, packed, Path(predictions.path), evaluation=section, seed=seed)
        examination = evaluation_step.look_closer(
            assessment,
            contenders,
            packed,
            Path(predictions.path),
            Path(source.path),
            evaluation=section,
            training=Training.of(training, at="training"),
            strategies=strategies,
            seed=seed,
        )
        page = evaluation_step.report(
            assessment,
            examination,
            packed,
            experiment=experiment,
            source={**selection, "digest": described(source)["digest"]},
            run_id=run.parent_id or run.id,
            tracking_uri=shown_to_people(run.client.tracking_uri),
        )
        write_text(Path(report.path), page)
        run.log_page("examination.json", examination.to_json())
        assessment = record_assessment(run, assessment, page, Path(predictions.path), source_version=pretrained)
        found = evaluation_step.evidence(assessment, packed, Path(predictions.path), report=page, address=dataset.uri)
        write_text(Path(leaderboard.path), assessment.leaderboard.to_json())
        shutil.copytree(assessment.chosen.path, winner.path, dirs_exist_ok=True)
        found.save(Path(winner.path) / EVIDENCE)
        best = assessment.leaderboard.chosen
        for artifact in (leaderboard, predictions, report):
            describe(artifact, run_id=run.id, data_digest=packed.digest)
        describe(
            winner,
            digest=bundle_digest(assessment.chosen.path),
            strategy=best.strategy,
            run_id=best.run_id or run.id,
        )
        table = assessment.metrics[best.strategy]["confusion"]
        confusion.log_confusion_matrix(list(packed.classes), table)
        write_json(Path(confusion.path), table)
        describe(metrics, **assessment.summary)
        write_json(Path(metrics.path), assessment.summary)
