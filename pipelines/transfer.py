"""The pipeline `transfer`: the steps of `pretrain` and `finetune` in one graph, the new source among the candidates."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_pipelines.exit_handler import closed_record
from headstart_pipelines.finetune import add_transfer
from headstart_pipelines.placement import Placement
from headstart_pipelines.pretrain import add_pretraining


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
        # By their names.
        parameters = dict(locals())
        with closed_record(placement, name):
            add_transfer(placement, parameters, add_pretraining(placement, parameters))

    return transfer
