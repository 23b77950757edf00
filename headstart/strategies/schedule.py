"""The schedule rule: how a fine-tuning with `schedule: auto` begins."""

from headstart.metrics.task import REGRESSION
from headstart.models.network import batch_norms
from headstart.strategies.task import Task

# Training samples from which batch norms learn the target's statistics: docs/studies/schedule.md.
_ENOUGH = 250
# Of numbers, a shift of the features is an error of every one of them.
_ENOUGH_FOR_NUMBERS = 40


def choose_schedule(task: Task) -> str:
    """`constant` from 250 training samples on, of numbers from 40, where the source has batch norms, else `lp_ft`.

    With enough samples a network does better with the target's statistics than with the source's. With fewer, neither
    start is surely better, and that of a probe distorts the source's features less.
    """
    samples = len(task.dataset.split("train").labels)
    enough = _ENOUGH_FOR_NUMBERS if task.dataset.task == REGRESSION else _ENOUGH
    return "constant" if batch_norms(task.source.network.stages) and samples >= enough else "lp_ft"
