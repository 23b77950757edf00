"""survey: what there is to search for a target, said once, before the trials."""

from headstart_components import component
from headstart_components.types import Dataset, Input


@component
def survey(experiment: str, candidates: list[str], training: dict, dataset: Input[Dataset]):
    """Looks at the packed target and at the candidate sources, and writes what a search has to know into the record.

    Args:
        experiment: the recipe's name.
        candidates: references to models and searches for them; those that are not pinned yet are pinned here.
        training: the recipe's training section.
        dataset: the packed target data set.
    """
    from pathlib import Path

    from headstart.data.dataset import Dataset as PackedDataset
    from headstart.searching.pods import SURVEY, survey_of
    from headstart.tracking.runs import step_run
    from headstart.training.section import Training

    with step_run(experiment, "survey", role="survey") as run:
        packed = PackedDataset.open(Path(dataset.path))
        found = survey_of(packed, candidates, Training.of(training, at="training"))
        run.log_data(packed, ("train", "val"))
        run.log_params({"candidates": [source.name for source in found.sources]})
        run.log_json(SURVEY, found.to_dict())
