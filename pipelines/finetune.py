"""The pipeline `finetune`: prepare_data(target) → select_source → strategies and baselines → evaluate → register."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.evaluate.component import evaluate
from headstart_components.finetune.component import finetune as finetune_step
from headstart_components.fit_baselines.component import fit_baselines
from headstart_components.register.component import register
from headstart_components.select_source.component import select_source
from headstart_pipelines.exit_handler import closed_record
from headstart_pipelines.placement import Placement
from headstart_pipelines.preparation import add_preparation
from headstart_pipelines.pretrain import Pretrained


def add_transfer(placement: Placement, parameters: Mapping[str, Any], pretrained: Pretrained | None = None) -> None:
    """Adds the steps from the target's data to its registration to the pipeline that is being built.

    Args:
        parameters: the pipeline's, by their names; those of `finetune` are needed.
        pretrained: a further candidate.
    """
    name, seed, modality = parameters["name"], parameters["seed"], parameters["modality"]
    shared = {"experiment": name, "seed": seed, **_only(parameters, "training", "evaluation")}
    prepared = add_preparation(
        placement, "target", data=parameters["target_data"], experiment=name, modality=modality, seed=seed
    )
    shared["dataset"] = prepared.outputs["dataset"]
    own = {"pretrained": pretrained.model} if pretrained else {}
    selected = select_source(candidates=parameters["source_candidates"], **shared, **own)
    placement.place(selected, "select source", cached="candidates" not in placement.unfingerprinted)
    shared["source"] = selected.outputs["source"]
    strategies = parameters["strategies"]
    with dsl.ParallelFor(strategies, name="strategies", parallelism=placement.strategies_at_once) as strategy:
        tuned = finetune_step(strategy=strategy, **shared)
        placement.place(tuned, "finetune")
    fitted = fit_baselines(baselines=parameters["baselines"], **shared)
    placement.place(fitted, "fit baselines")
    version = {"pretrained": pretrained.version} if pretrained else {}
    judged = evaluate(
        strategies=strategies,
        models=dsl.Collected(tuned.outputs["model"]),
        baselines=fitted.outputs["fitted"],
        **shared,
        **version,
    )
    # Evaluation and registration write into MLflow, whose state no cache key knows; both are idempotent.
    placement.place(judged, "evaluate", cached=False)
    sections = _only(
        parameters, "source_candidates", "target_data", "training", "strategies", "baselines", "evaluation"
    )
    registered = register(
        experiment=name, role="target", modality=modality, seed=seed, model=judged.outputs["winner"], **sections,
        **version,
    )  # fmt: skip
    placement.place(registered, "register target", cached=False)


def _only(parameters: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: parameters[name] for name in names}


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
        # By their names.
        parameters = dict(locals())
        with closed_record(placement, name):
            add_transfer(placement, parameters)

    return finetune
