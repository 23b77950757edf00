"""Transfer: a source model is carried to a target by a strategy."""

import logging
import time
from dataclasses import replace

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.widening import for_samples
from headstart.strategies.section import Strategy
from headstart.strategies.task import Task
from headstart.training.context import RunContext
from headstart.training.engine import training_device
from headstart.training.held_out import held_out_further
from headstart.training.section import Training
from headstart.training.trained import Trained

log = logging.getLogger(__name__)


def transfer(
    source: ModelBundle,
    dataset: Dataset,
    strategy: Strategy,
    *,
    training: Training,
    context: RunContext,
    reference: str | None = None,
    digest: str | None = None,
    start_stays: bool | None = None,
) -> Trained:
    """Carry `source` to the classes of `dataset` by `strategy`; `source` itself is not changed.

    `reference` and `digest` say which model the source is. `start_stays` says whether a start that is a model stays
    where that is decided already, as for a training with another seed. What is chosen (the head's kind and penalty,
    epochs, α, the temperature) is chosen on samples that are held out of training; the model then learns from all
    labels. The test split is not read. The result's seconds count everything from the source's weights on.

    Raises:
        InputError: the modalities differ, or the source's architecture does not have what the strategy needs: stages
            enough to freeze or to part, linear layers for `lora`.
    """
    if source.modality != dataset.modality:
        raise InputError(
            f"The source reads {source.modality} and the target is {dataset.modality}; choose another source."
        )
    start, context = time.perf_counter(), context.asking(dataset.task)
    source.network.to(training_device())
    channels, source = source.preprocessing.channels, for_samples(source, dataset.given)
    if source.preprocessing.channels != channels:
        log.info("The source's first layer reads %d channels where it read %d", source.preprocessing.channels, channels)
    if lost := dataset.kind.lost(source.preprocessing.given, dataset.given):
        log.warning(
            "Of the target's %ss the source does not see %s, and neither do the models that start from it and the "
            "baseline scratch, which is like it.",
            dataset.kind.noun,
            lost,
        )

    def carried(data: Dataset, context: RunContext) -> Trained:
        return strategy.carry(Task(source, data, strategy.name, training, context, reference, digest, start_stays))

    # A strategy that decides by what is held out further has asked for that itself: nothing is done twice.
    trained = held_out_further(carried(dataset, context), dataset, context, carried)
    return replace(trained, seconds=time.perf_counter() - start)
