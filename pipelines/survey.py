"""The pipeline `survey`: the target is prepared, and what there is to search for it is written into the record."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.survey.component import survey as survey_step
from headstart_pipelines.exit_handler import closed_record
from headstart_pipelines.placement import Placement
from headstart_pipelines.preparation import add_preparation


def build_survey(placement: Placement) -> GraphComponent:
    """The pipeline, with its tasks placed."""

    @dsl.pipeline(name="survey", description="Says what there is to search for a target.")
    def survey(
        name: str, modality: str, seed: int, source_candidates: list[str], target_data: dict, training: dict
    ) -> None:
        """Prepares the target and looks at the candidate sources, before the trials of a search.

        Args:
            name: the experiment.
            modality: what the samples are.
            seed: of everything random.
            source_candidates: the recipe's source.candidates.
            target_data: the recipe's target.data.
            training: the recipe's training.
        """
        with closed_record(placement, name):
            prepared = add_preparation(
                placement, "target", data=target_data, experiment=name, modality=modality, seed=seed
            )
            found = survey_step(
                experiment=name, candidates=source_candidates, training=training, dataset=prepared.outputs["dataset"]
            )
            # Whoever leads the search reads it from the record of this run.
            placement.place(found, "survey", cached=False)

    return survey
