"""The optimiser of a training, with a learning rate and a weight decay for each group of parameters."""

import torch
from torch import nn

from headstart.training.plan import Plan


def make_optimizer(module: nn.Module, stages: nn.ModuleList, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimiser over the parameters of `module` that train in some epoch.

    `peak` is the peak learning rate of a group: the plan's, times `layer_decay` once for each stage from the group's to
    the head.
    """
    # As few groups as can be, since a fused step takes longer in many; stages that join later have their own, because
    # fused SGD gives the momenta of a group all at once.
    groups: dict[tuple[int, float, float], list[nn.Parameter]] = {}
    depth = {id(parameter): position for position, stage in enumerate(stages) for parameter in stage.parameters()}
    for parameter in module.parameters():
        if parameter.requires_grad or plan.unfreeze_every:
            position = depth.get(id(parameter), len(stages))
            peak = plan.learning_rate * plan.layer_decay ** (len(stages) - position)
            # Decay pulls weights towards 0; on biases and normalisation scales (one axis) that only shifts activations.
            decay = plan.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((position if plan.unfreeze_every else 0, peak, decay), []).append(parameter)
    options = [
        {"params": parameters, "peak": peak, "weight_decay": decay} for (_, peak, decay), parameters in groups.items()
    ]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(options, lr=plan.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(options, lr=plan.learning_rate, fused=True)
