"""trial: one configuration of a search is trained and judged on held-out labels."""

from headstart_components import component
from headstart_components.types import Metrics, Output


@component
def trial(
    experiment: str,
    search: str,
    modality: str,
    seed: int,
    source: str,
    target_data: dict,
    data_digest: str,
    strategy: dict,
    training: dict,
    evaluation: dict,
    metrics: Output[Metrics],
):
    """Transfers a source to the target by one strategy, without a look at the test split.

    Args:
        experiment: the recipe's name.
        search: the key of the search, by which its run in the record is found.
        modality: what the samples are.
        seed: of everything random.
        source: the pinned reference of the source.
        target_data: the recipe's target.data.
        data_digest: of the packed target that the search began with.
        strategy: what is tried, as an entry of the recipe's strategies.
        training: the recipe's training section.
        evaluation: the recipe's evaluation section; its metric stands beside the loss.
        metrics: the figures on held-out labels.
    """
    from pathlib import Path

    from headstart.artifacts import describe
    from headstart.data.section import Data
    from headstart.judging.section import Evaluation
    from headstart.searching.pods import PodTrial, try_in_pod
    from headstart.storage.local import write_json
    from headstart.strategies.section import Strategy
    from headstart.training.section import Training

    given = PodTrial(
        experiment,
        search,
        modality,
        seed,
        source,
        Data.of(target_data, at="target.data"),
        data_digest,
        Strategy.of(strategy, at="strategy"),
    )
    found = try_in_pod(given, Training.of(training, at="training"), Evaluation.of(evaluation, at="evaluation"))
    write_json(Path(metrics.path), found)
    describe(metrics, **found)
