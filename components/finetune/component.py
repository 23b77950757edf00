"""finetune: one strategy carries the source to the target."""

from headstart_components import component
from headstart_components.types import Dataset, Input, Model, Output


@component
def finetune(
    experiment: str,
    strategy: dict,
    training: dict,
    evaluation: dict,
    seed: int,
    dataset: Input[Dataset],
    source: Input[Model],
    model: Output[Model],
):
    """Transfers the source to the target's classes by one strategy.

    Args:
        experiment: the recipe's name.
        strategy: one entry of the recipe's strategies.
        training: the recipe's training section.
        evaluation: the recipe's evaluation section; its metric chooses the best epoch on held-out labels, and its
            seeds repeat the training.
        seed: of new weights, order and augmentation.
        dataset: the packed target data set.
        source: the source's bundle.
        model: the target's bundle; its metadata say how well it does on the validation split.
    """
    from pathlib import Path

    from headstart.artifacts import describe, described
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.jobs.job import train, transfer_job
    from headstart.judging.contenders import Contender
    from headstart.judging.retraining import retrain
    from headstart.judging.section import Evaluation
    from headstart.models.bundle import bundle_digest
    from headstart.models.reference import unpinned
    from headstart.strategies.section import Strategy
    from headstart.tracking.names import DATA_DIGEST, MODEL_DIGEST, SOURCE_MODEL, STRATEGY
    from headstart.tracking.runs import step_run
    from headstart.tracking.system_metrics import system_metrics
    from headstart.training.context import RunContext
    from headstart.training.progress import progress
    from headstart.training.section import Training

    section = Strategy.of(strategy, at="strategies")
    judged = Evaluation.of(evaluation, at="evaluation")
    packed = PackedDataset.open(Path(dataset.path))
    reference, digest = (described(source)[key] for key in ("source", "digest"))
    tags = {STRATEGY: section.name, SOURCE_MODEL: unpinned(reference), DATA_DIGEST: packed.digest}
    given = {"training": Training.of(training, at="training"), "reference": reference, "digest": digest}
    job = transfer_job(Path(source.path), packed.path, section, **given)
    with step_run(experiment, section.name, role="target", tags=tags) as run, system_metrics(run):
        run.log_data(packed, ("train", "val"))
        context = RunContext(seed, judged.metric, on_epoch=run.log_epoch, progress=progress())
        result = train(job, context)
        own_digest = bundle_digest(result.save(Path(model.path), packed))
        retrain(result, job, context, judged.seeds, Path(model.path), packed)
        contender = Contender(section.name, "transfer", Path(model.path), result.validation, result.seconds, run.id)
        run.log_params({**section.model_dump(mode="json"), "seed": seed, **result.params})
        speed = {"speed/samples_per_second": result.samples_per_second or None}
        run.log_metrics({f"val/best_{judged.metric}": result.validation, "time/seconds": result.seconds, **speed})
        run.set_tags({MODEL_DIGEST: own_digest})
        describe(model, digest=own_digest, original=section.copy_of, **contender.to_metadata())
