"""The pipeline `finetune`: prepare_data(target) → select_source → strategies and baselines → evaluate → register."""

from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.evaluate.component import evaluate
from headstart_components.finetune.component import finetune as finetune_step
from headstart_components.fit_baselines.component import fit_baselines
from headstart_components.prepare_data.component import prepare_data
from headstart_components.register.component import register
from headstart_components.select_source.component import select_source
from headstart_pipelines.placement import Placement
from headstart_pipelines.pretrain import Pretrained
from headstart_pipelines.record import closed_record


def add_transfer(
    placement: Placement,
    pretrained: Pretrained | None = None,
    *,
    name: Any,
    modality: Any,
    seed: Any,
    source_candidates: Any,
    target_data: Any,
    training: Any,
    strategies: Any,
    baselines: Any,
    evaluation: Any,
) -> None:
    """Adds the steps from the target's data to its registration to the pipeline that is being built; `pretrained` is a
    further candidate, the others are the pipeline's parameters."""
    prepared = prepare_data(experiment=name, modality=modality, role="target", data=target_data, seed=seed)
    placement.prepare(prepared, "target")
    dataset = prepared.outputs["dataset"]
    own = {"pretrained": pretrained.model} if pretrained else {}
    selected = select_source(
        experiment=name,
        candidates=source_candidates,
        seed=seed,
        dataset=dataset,
        training=training,
        evaluation=evaluation,
        **own,
    )
    placement.place(selected, "select source", cached="candidates" not in placement.unfingerprinted)
    source = selected.outputs["source"]
    with dsl.ParallelFor(strategies, name="strategies", parallelism=placement.strategies_at_once) as strategy:
        tuned = finetune_step(
            experiment=name,
            strategy=strategy,
            training=training,
            evaluation=evaluation,
            seed=seed,
            dataset=dataset,
            source=source,
        )
        placement.place(tuned, "finetune")
    fitted = fit_baselines(
        experiment=name,
        baselines=baselines,
        training=training,
        evaluation=evaluation,
        seed=seed,
        dataset=dataset,
        source=source,
    )
    placement.place(fitted, "fit baselines")
    version = {"pretrained": pretrained.version} if pretrained else {}
    judged = evaluate(
        experiment=name,
        training=training,
        strategies=strategies,
        evaluation=evaluation,
        seed=seed,
        dataset=dataset,
        source=source,
        models=dsl.Collected(tuned.outputs["model"]),
        baselines=fitted.outputs["fitted"],
        **version,
    )
    # Evaluation and registration write into MLflow, whose state no cache key knows; both are idempotent.
    placement.place(judged, "evaluate", cached=False)
    registered = register(
        experiment=name,
        role="target",
        modality=modality,
        seed=seed,
        model=judged.outputs["winner"],
        source_candidates=source_candidates,
        target_data=target_data,
        training=training,
        strategies=strategies,
        baselines=baselines,
        evaluation=evaluation,
        **version,
    )
    placement.place(registered, "register target", cached=False)


def build_finetune(placement: Placement) -> GraphComponent:
    """The pipeline, with its tasks placed."""

    @dsl.pipeline(name="finetune", description="Transfers the best source to the target and registers the winner.")
    def finetune(
        name: str,
        modality: str,
        seed: int,
        source_candidates: list[str],
        target_data: dict,
        training: dict,
        strategies: list[dict],
        baselines: list[str],
        evaluation: dict,
    ) -> None:
        """Transfers the best source to the target by every strategy and registers the winner.

        Args:
            name: the experiment; the winner is registered as <name>-target.
            modality: what the samples are.
            seed: of everything random.
            source_candidates: the recipe's source.candidates.
            target_data: the recipe's target.data.
            training: the recipe's training.
            strategies: the recipe's strategies.
            baselines: the recipe's baselines.
            evaluation: the recipe's evaluation.
        """
        with closed_record(placement, name):
            add_transfer(
                placement,
                name=name,
                modality=modality,
                seed=seed,
                source_candidates=source_candidates,
                target_data=target_data,
                training=training,
                strategies=strategies,
                baselines=baselines,
                evaluation=evaluation,
            )

    return finetune
