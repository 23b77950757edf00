"""select_source: the candidate whose features suit the target best, pinned to its content."""

from typing import Optional

from headstart_components import component
from headstart_components.types import Dataset, Input, Model, Output


@component
def select_source(
    experiment: str,
    candidates: list[str],
    seed: int,
    dataset: Input[Dataset],
    source: Output[Model],
    training: dict = {},
    evaluation: dict = {},
    pretrained: Optional[Input[Model]] = None,  # noqa: UP045 (KFP does not know the other form)
):
    """Ranks the candidates by their frozen features on the target's training labels; fine-tunes the two best shortly.

    Args:
        experiment: the recipe's name.
        candidates: references to models and searches for them; those that are not pinned yet are pinned here.
        seed: of the cross-validation's folds and of the fine-tunings.
        dataset: the packed target data set.
        source: the chosen source's bundle, and beside it the ranking, the reason for the choice and the warnings.
        training: the recipe's training section, of whose epochs the fine-tunings get a quarter.
        evaluation: the recipe's evaluation section; its metric judges the fine-tunings.
        pretrained: a further candidate: what this pipeline run pretrained, which need not be registered yet.
    """
    from pathlib import Path

    from headstart.artifacts import describe
    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.judging.section import Evaluation
    from headstart.judging.selection import RANKING, select_source
    from headstart.models.reference import unpinned
    from headstart.storage.local import write_json
    from headstart.tracking.candidates import Pretrained, offer
    from headstart.tracking.names import NOTE, SOURCE_MODEL
    from headstart.tracking.runs import step_run
    from headstart.training.progress import progress
    from headstart.training.section import Training

    own = Pretrained(f"{experiment}-source", Path(pretrained.path)) if pretrained else None
    packed = PackedDataset.open(Path(dataset.path))
    with step_run(experiment, "select-source") as run:
        offered = offer(candidates, own)
        selection = select_source(
            offered.references,
            packed,
            training=Training.of(training, at="training"),
            metric=Evaluation.of(evaluation, at="evaluation").for_task(packed.task).metric,
            seed=seed,
            fetch_registered=offered.fetch,
            background=offered.background,
            progress=progress(),
        )
        best, table = selection.chosen, selection.to_dict()
        digest = selection.bundle.save(Path(source.path))
        run.log_params({"candidates": [unpinned(uri) for uri in offered.references], "seed": seed})
        run.log_metrics(
            {"probe/accuracy": best.probe, "probe/error": best.probe_error, "time/seconds": table["seconds"]}
        )
        run.set_tags({SOURCE_MODEL: unpinned(best.source), NOTE: " ".join([selection.reason, *selection.warnings])})
        run.log_json(RANKING, table)
        describe(source, digest=digest, run_id=run.id, source=best.source)
        write_json(Path(source.path) / RANKING, table)
