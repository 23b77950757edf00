"""The schedule rule: how a fine-tuning with `schedule: auto` begins."""

from torch.nn.modules.batchnorm import _BatchNorm

from headstart.strategies.task import Task

# Training samples from which batch norms learn the target's statistics: docs/studies/schedule.md.
_ENOUGH = 250


def choose_schedule(task: Task) -> str:
    """`constant` from 250 training samples on where the source has batch norms, else `lp_ft`.

    With enough samples a network does better with the target's statistics than with the source's. With fewer, neither
    start is surely better, and that of a probe distorts the source's features less.
    """
    samples = len(task.dataset.split("train").labels)
    learns = any(isinstance(module, _BatchNorm) for module in task.source.network.stages.modules())
    return "constant" if learns and samples >= _ENOUGH else "lp_ft"
