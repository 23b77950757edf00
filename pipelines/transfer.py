"""The pipeline `transfer`: pretrain, then finetune with the new source among the candidates."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact
from kfp.dsl.graph_component import GraphComponent

from headstart_pipelines.finetune import build_finetune
from headstart_pipelines.placement import Placement
from headstart_pipelines.pretrain import build_pretrain


class Outcome(NamedTuple):
    """What the pipeline leaves: both registered versions, the leaderboard and the report."""

    source: str
    target: str
    leaderboard: Artifact
    report: HTML


def build_transfer(placement: Placement) -> GraphComponent:
    """The pipeline, with its tasks placed."""
    pretrain = build_pretrain(placement)
    finetune = build_finetune(placement)

    @dsl.pipeline(name="transfer", description="Pretrains a source, transfers it to the target and says if it helped.")
    def transfer(
        name: str,
        modality: str,
        seed: int,
        source_data: dict,
        source_pretraining: dict,
        source_candidates: list,
        target_data: dict,
        training: dict,
        strategies: list[dict],
        baselines: list,
        evaluation: dict,
    ) -> Outcome:
        """Pretrains a source, transfers the best source to the target and says whether it helped.

        The parameters are the recipe's sections.
        """
        pretrained = pretrain(
            name=name,
            modality=modality,
            seed=seed,
            source_data=source_data,
            source_pretraining=source_pretraining,
        )
        outcome = finetune(
            name=name,
            modality=modality,
            seed=seed,
            source_candidates=source_candidates,
            target_data=target_data,
            training=training,
            strategies=strategies,
            baselines=baselines,
            evaluation=evaluation,
            pretrained=pretrained.output,
        )
        return Outcome(
            source=pretrained.output,
            target=outcome.outputs["target"],
            leaderboard=outcome.outputs["leaderboard"],
            report=outcome.outputs["report"],
        )

    return transfer
