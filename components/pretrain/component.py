"""pretrain: a source model, trained on the source data."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain(
    experiment: str,
    pretraining: dict,
    seed: int,
    dataset: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
    evidence: Output[Artifact],
):
    """Trains the recipe's architecture on the source data set.

    Args:
        experiment: the recipe's name.
        pretraining: the recipe's pretraining section.
        seed: of initialisation, order and augmentation.
        dataset: the packed source data set.
        model: the source's bundle.
        metrics: its accuracy on the source's own test split.
        evidence: what speaks for it: figures with intervals, test predictions, the samples it was trained on.
    """
    import json
    from pathlib import Path

    from headstart import config
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.evaluation.evaluate import evaluate_source
    from headstart.tracking.names import DATA_DIGEST, MODEL_DIGEST
    from headstart.tracking.runs import step_run
    from headstart.tracking.system_metrics import system_metrics
    from headstart.training.progress import progress
    from headstart.transfer.pretraining import train_from_scratch

    section = config.Pretraining.of(pretraining, at="source.pretraining")
    packed = PackedDataset.open(Path(dataset.path))
    with step_run(experiment, "pretrain", role="source", tags={DATA_DIGEST: packed.digest}) as run, system_metrics(run):
        bundle, fit, plan = train_from_scratch(
            section.architecture,
            packed,
            training=section,
            role="source",
            seed=seed,
            on_epoch=run.log_epoch,
            progress=progress(),
            label="pretraining",
        )
        found = evaluate_source(bundle, packed, experiment=experiment, address=dataset.uri, seed=seed)
        found.save(Path(evidence.path))
        accuracy = {name: found.figures[name] for name in ("test/accuracy", "test/macro_f1")}
        digest = bundle.save(Path(model.path))
        params = {"architecture": section.architecture, "temperature": bundle.temperature}
        run.log_params({**params, "seed": seed, **plan.to_params()})
        cost = {"time/seconds": fit.seconds, "speed/samples_per_second": fit.samples_per_second}
        run.log_metrics({**found.figures, "val/best_accuracy": fit.validation, **cost})
        run.set_tags({MODEL_DIGEST: digest})
        model.metadata.update(digest=digest, run_id=run.id, seconds=fit.seconds, **accuracy)
        evidence.metadata.update(run_id=run.id, **found.digests)
        for name, value in accuracy.items():
            metrics.log_metric(name, value)
        Path(metrics.path).write_text(json.dumps(accuracy))
