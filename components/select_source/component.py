"""select_source: the candidate whose features suit the target best, pinned to its content."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from headstart_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def select_source(
    experiment: str,
    candidates: list,
    pretrained: str,
    seed: int,
    dataset: Input[Dataset],
    source: Output[Model],
    metrics: Output[Metrics],
    training: dict = {},
    evaluation: dict = {},
):
    """Ranks the candidates by their frozen features on the target's training labels; fine-tunes the two best shortly.

    Args:
        experiment: the recipe's name.
        candidates: references to models and searches for them; those that are not pinned yet are pinned here.
        pretrained: the reference of the model that this pipeline run pretrained, or "" where it did not.
        seed: of the cross-validation's folds and of the fine-tunings.
        dataset: the packed target data set.
        source: the chosen source's bundle.
        metrics: each candidate's probe accuracy.
        training: the recipe's training section, of whose epochs the fine-tunings get a quarter.
        evaluation: the recipe's evaluation section; its metric judges the fine-tunings.
    """
    from pathlib import Path

    from headstart import config
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.models.reference import unpinned
    from headstart.models.sources import pin_sources
    from headstart.storage.local import write_json
    from headstart.tracking import registry
    from headstart.tracking.dossier import background
    from headstart.tracking.names import NOTE, SOURCE_MODEL
    from headstart.tracking.runs import step_run
    from headstart.training.progress import progress
    from headstart.transfer.selection import select_source

    with step_run(experiment, "select-source") as run:
        offered = pin_sources(
            [*candidates, pretrained] if pretrained else candidates,
            resolve_registered=registry.resolve,
            search_registered=registry.search,
        )
        selection = select_source(
            offered,
            PackedDataset.open(Path(dataset.path)),
            training=config.Training.of(training, at="training"),
            metric=config.Evaluation.of(evaluation, at="evaluation").metric,
            seed=seed,
            fetch_registered=registry.fetch,
            background=background,
            progress=progress(),
        )
        best, table = selection.chosen, selection.to_dict()
        digest = selection.bundle.save(Path(source.path))
        run.log_params({"candidates": [unpinned(uri) for uri in offered], "seed": seed})
        run.log_metrics(
            {"probe/accuracy": best.probe, "probe/error": best.probe_error, "time/seconds": table["seconds"]}
        )
        run.set_tags({SOURCE_MODEL: unpinned(best.source), NOTE: " ".join([selection.reason, *selection.warnings])})
        run.log_json("ranking.json", table)
        source.metadata.update(digest=digest, run_id=run.id, **table)
        for ranked in selection.ranking:
            metrics.log_metric(f"probe {ranked.name}", ranked.probe)
        write_json(Path(metrics.path), table)
