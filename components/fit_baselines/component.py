"""fit_baselines: what the transfer has to beat."""

from headstart_components import component
from headstart_components.types import Artifact, Dataset, Input, Model, Output


@component
def fit_baselines(
    experiment: str,
    baselines: list[str],
    training: dict,
    evaluation: dict,
    seed: int,
    dataset: Input[Dataset],
    source: Input[Model],
    fitted: Output[Artifact],
):
    """Trains the baselines on the target alone.

    Args:
        experiment: the recipe's name.
        baselines: `scratch` (the source's architecture from random weights) and `classical` (scikit-learn).
        training: the recipe's training section, the same budget as the strategies have.
        evaluation: the recipe's evaluation section.
        seed: of initialisation, order, augmentation and folds.
        dataset: the packed target data set.
        source: the source's bundle; only its architecture and input size are used.
        fitted: a folder with the baselines and baselines.json, which lists them.
    """
    from pathlib import Path

    from headstart.artifacts import describe
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.judging.baselines import fit_baseline
    from headstart.judging.section import Evaluation
    from headstart.models.bundle import ModelBundle
    from headstart.storage.local import write_json
    from headstart.tracking.names import STRATEGY
    from headstart.tracking.runs import step_run
    from headstart.tracking.system_metrics import system_metrics
    from headstart.training.context import RunContext
    from headstart.training.progress import progress
    from headstart.training.section import Training

    packed = PackedDataset.open(Path(dataset.path))
    like = ModelBundle.load(Path(source.path))
    section = Evaluation.of(evaluation, at="evaluation")
    listed = []
    for name in baselines:
        with step_run(experiment, name, role="baseline", tags={STRATEGY: name}) as run, system_metrics(run):
            run.log_data(packed, ("train", "val"))
            contender, params = fit_baseline(
                name,
                packed,
                Path(fitted.path),
                like=like,
                training=Training.of(training, at="training"),
                context=RunContext(seed, section.metric, on_epoch=run.log_epoch, progress=progress()),
                run_id=run.id,
                seeds=section.seeds,
            )
            run.log_params({**params, "seed": seed})
            run.log_metrics({f"val/best_{section.metric}": contender.validation, "time/seconds": contender.seconds})
            listed.append({"path": contender.path.name, **contender.to_metadata()})
    runs = {f"run_id {entry['strategy']}": entry["run_id"] for entry in listed}
    describe(fitted, data_digest=packed.digest, **runs)
    write_json(Path(fitted.path) / "baselines.json", listed)
