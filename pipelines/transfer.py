"""The pipeline `transfer`: the steps of `pretrain` and `finetune` in one graph, the new source among the candidates."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_pipelines.finetune import add_transfer
from headstart_pipelines.placement import Placement
from headstart_pipelines.pretrain import add_pretraining
from headstart_pipelines.record import closed_record


def build_transfer(placement: Placement) -> GraphComponent:
    """The pipeline, with its tasks placed."""

    @dsl.pipeline(name="transfer", description="Pretrains a source, transfers it to the target and says if it helped.")
    def transfer(
        name: str,
        modality: str,
        seed: int,
        source_data: dict,
        source_pretraining: dict,
        source_candidates: list[str],
        target_data: dict,
        training: dict,
        strategies: list[dict],
        baselines: list[str],
        evaluation: dict,
    ) -> None:
        """Pretrains a source, transfers the best source to the target and says whether it helped.

        The parameters are the recipe's sections.
        """
        with closed_record(placement, name):
            pretrained = add_pretraining(
                placement,
                name=name,
                modality=modality,
                seed=seed,
                source_data=source_data,
                source_pretraining=source_pretraining,
            )
            add_transfer(
                placement,
                pretrained,
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

    return transfer
