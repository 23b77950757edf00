"""Batch norms as part of the convolutions before them, for stages that only predict."""

import logging
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

log = logging.getLogger(__name__)

# Of the largest output: what float32 rounds differently over many layers, and much less than a wrong network differs.
_TOLERANCE = 1e-3


def fold_batch_norms(stages: nn.ModuleList, example: Tensor) -> nn.ModuleList:
    """The stages, which are in eval mode, with batch norms multiplied into the convolutions before them.

    Of y = γ (Wx + b - μ) / σ + β, γW / σ become the weights and γ (b - μ) / σ + β the bias (Jacob et al., "Quantization
    and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018, section 3.2), which
    saves a pass over the feature map. `stages` stay as they are and share what is not folded with the result. A stage
    that torch.fx cannot trace, or that gives something else for `example` (N, C, H, W) when it is, is left alone.
    """
    folded = nn.ModuleList()
    with torch.inference_mode():
        for stage in stages:
            outputs = stage(example)
            folded.append(_checked(stage, example, outputs))
            example = outputs
    return folded


def _checked(stage: nn.Module, inputs: Tensor, outputs: Tensor) -> nn.Module:
    if not any(isinstance(module, _BatchNorm) for module in stage.modules()):
        return stage
    # Whatever it is in somebody's network that cannot be traced, it can be computed as it is.
    try:
        folded = _folded(stage)
        difference = float((folded(inputs) - outputs).abs().max())
    except Exception as error:
        log.info("The batch norms of a stage are not folded: %s", error)
        return stage
    return folded if difference <= _TOLERANCE * float(outputs.abs().max()) else stage


def _folded(stage: nn.Module) -> fx.GraphModule:
    traced = fx.symbolic_trace(stage)
    modules = dict(traced.named_modules())
    # Who is called twice has other inputs at each call.
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = modules[str(before.target)], modules[str(node.target)]
        once = calls[before.target] == calls[node.target] == 1
        a_pair = isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if once and a_pair and norm.track_running_stats:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced
