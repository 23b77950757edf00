"""pretrain: a source model, trained on the source data."""

from headstart_components import component
from headstart_components.types import Dataset, Input, Metrics, Model, Output


@component
def pretrain(
    experiment: str,
    pretraining: dict,
    seed: int,
    dataset: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
):
    """Trains the recipe's architecture on the source data set.

    Args:
        experiment: the recipe's name.
        pretraining: the recipe's pretraining section.
        seed: of initialisation, order and augmentation.
        dataset: the packed source data set.
        model: the source's bundle, and in its folder `evidence` what speaks for it: figures with intervals, test
            predictions, the samples it was trained on.
        metrics: its accuracy on the source's own test split.
    """
    import json
    from pathlib import Path

    from headstart.artifacts import describe
    from headstart.data.dataset import SPLITS
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.jobs.job import pretraining_job, train
    from headstart.judging.evidence import EVIDENCE
    from headstart.judging.source_evaluation import evaluate_source
    from headstart.tracking.candidates import started
    from headstart.tracking.names import DATA_DIGEST, MODEL_DIGEST
    from headstart.tracking.runs import step_run
    from headstart.tracking.system_metrics import system_metrics
    from headstart.training.context import RunContext
    from headstart.training.progress import progress
    from headstart.training.section import Pretraining

    section = Pretraining.of(pretraining, at="source.pretraining")
    packed = PackedDataset.open(Path(dataset.path))
    with (
        step_run(experiment, "pretrain", role="source", tags={DATA_DIGEST: packed.digest}) as run,
        system_metrics(run),
        started(section, packed.modality) as (section, start),
    ):
        run.log_data(packed, SPLITS)
        context = RunContext(seed, on_epoch=run.log_epoch, progress=progress())
        result = train(pretraining_job(packed.path, section, start), context)
        found = evaluate_source(result.bundle, packed, experiment=experiment, address=dataset.uri, seed=seed)
        accuracy = {name: found.figures[name] for name in ("test/accuracy", "test/macro_f1") if name in found.figures}
        digest = result.bundle.save(Path(model.path))
        found.save(Path(model.path) / EVIDENCE)
        run.log_params({"objective": section.objective, "seed": seed, **result.params})
        run.log_metrics({**found.figures, "time/seconds": result.seconds})
        if result.samples_per_second is not None:
            run.log_metrics({"speed/samples_per_second": result.samples_per_second})
        if result.bundle.classes:
            run.log_metrics({"val/best_accuracy": result.validation})
        run.set_tags({MODEL_DIGEST: digest})
        describe(model, digest=digest, run_id=run.id, seconds=result.seconds, **accuracy)
        describe(metrics, **accuracy)
        Path(metrics.path).write_text(json.dumps(accuracy))
