"""evaluate: every strategy and baseline on the target's test split, and the verdict."""

from headstart_components import component
from headstart_components.types import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output


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
        winner: the bundle of the contender that is delivered, with the evidence for it in its folder `evidence`.
        leaderboard: leaderboard.json.
        predictions: one Parquet file a contender, one row a test sample.
        confusion: the transfer's confusion matrix.
        metrics: the transfer's figures.
        report: the page with the verdict.
        training: the recipe's training section; evaluation.curve_training needs it.
        strategies: the recipe's strategies; likewise.
        pretrained: the registered version of the source that this pipeline run pretrained, or "" where it did not.
    """
    from pathlib import Path

    from headstart.artifacts import describe, described
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.judging.contenders import read_contenders
    from headstart.tracking.evaluation import Outputs, evaluate_and_record, read_selection
    from headstart.tracking.runs import step_run

    packed, start = PackedDataset.open(Path(dataset.path)), Path(source.path)
    selection = read_selection(start, described(source)["digest"], pretrained)
    bundles = ((model.path, described(model)) for model in models)
    contenders = read_contenders(bundles, selection["source"], Path(baselines.path))
    sections = {"evaluation": evaluation, "training": training, "strategies": strategies}
    recipe = {"name": experiment, "seed": seed, **sections}
    outputs = Outputs(*(Path(o.path) for o in (predictions, leaderboard, report, winner, confusion, metrics)))
    with step_run(experiment, "evaluate") as run:
        found = evaluate_and_record(run, contenders, packed, start, selection, recipe, outputs, address=dataset.uri)
        for artifact in (leaderboard, predictions, report):
            describe(artifact, run_id=run.id, data_digest=packed.digest, verdict=found.leaderboard.verdict)
        describe(winner, **found.winner)
        confusion.log_confusion_matrix(*found.confusion)
        describe(metrics, **found.summary)
