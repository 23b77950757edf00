"""The pipeline `trial`: one trial of a search, in one pod.

It prepares nothing of its own, reads the test split nowhere and closes no record: its step writes into that of the
search. So it costs a cluster a driver and a pod, and its workflow a few kilobytes.
"""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.trial.component import trial as trial_step
from headstart_pipelines.placement import Placement


def build_trial(placement: Placement) -> GraphComponent:
    """The pipeline, with its task placed."""

    @dsl.pipeline(name="trial", description="Tries one configuration of a search on held-out labels.")
    def trial(
        name: str,
        search: str,
        modality: str,
        seed: int,
        source: str,
        target_data: dict,
        data_digest: str,
        strategy: dict,
        training: dict,
        evaluation: dict,
    ) -> None:
        """Transfers a source to the target by one strategy and judges it on held-out labels.

        Args:
            name: the experiment.
            search: the key of the search.
            modality: what the samples are.
            seed: of everything random.
            source: the pinned reference of the source.
            target_data: the recipe's target.data.
            data_digest: of the packed target that the search began with.
            strategy: what is tried, as an entry of the recipe's strategies.
            training: the recipe's training.
            evaluation: the recipe's evaluation.
        """
        tried = trial_step(
            experiment=name,
            search=search,
            modality=modality,
            seed=seed,
            source=source,
            target_data=target_data,
            data_digest=data_digest,
            strategy=strategy,
            training=training,
            evaluation=evaluation,
        )
        # The state keeps what it trained; what it writes is for this search.
        placement.place(tried, "trial", cached=False)

    return trial
