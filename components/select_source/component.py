"""select_source: the candidate whose features suit the target best, pinned to its content."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def select_source(
    experiment: str,
    candidates: list,
    pretrained: str,
    seed: int,
    dataset: Input[Dataset],
    source: Output[Model],
    metrics: Output[Metrics],
):
    """Probes every candidate's frozen features on the target's training labels.

    Args:
        experiment: the recipe's name.
        candidates: references to models; those that are not pinned yet are pinned here.
        pretrained: the reference of the model that this pipeline run pretrained, or "" where it did not.
        seed: of the cross-validation's folds.
        dataset: the packed target data set.
        source: the chosen source's bundle.
        metrics: each candidate's probe accuracy.
    """
    import json
    from pathlib import Path

    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.models.reference import unpinned
    from headstart.models.sources import pin_source
    from headstart.tracking import registry
    from headstart.tracking.names import SOURCE_MODEL
    from headstart.tracking.runs import step_run
    from headstart.training.progress import progress
    from headstart.transfer.selection import select_source

    with step_run(experiment, "select-source") as run:
        offered = [*candidates, pretrained] if pretrained else candidates
        chosen = select_source(
            [pin_source(uri, resolve_registered=registry.resolve) for uri in offered],
            PackedDataset.open(Path(dataset.path)),
            seed=seed,
            fetch_registered=registry.fetch,
            progress=progress(),
        )
        best = chosen.ranking[0]
        digest = chosen.bundle.save(Path(source.path))
        run.log_params({"candidates": [unpinned(uri) for uri in offered], "seed": seed})
        run.log_metrics({"probe/accuracy": best.probe, "probe/error": best.probe_error})
        run.set_tags({SOURCE_MODEL: unpinned(best.source)})
        source.metadata.update(
            digest=digest, run_id=run.id, source=best.source, ranking=[ranked.to_dict() for ranked in chosen.ranking]
        )
        for ranked in chosen.ranking:
            metrics.log_metric(f"probe {unpinned(ranked.source)}", ranked.probe)
        Path(metrics.path).write_text(json.dumps(source.metadata["ranking"]))
