"""The distance of a target's samples from the data that a source was trained on."""

from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from headstart.models.bundle import ModelBundle
from headstart.models.network import batch_norms


def source_distance(source: ModelBundle, samples: np.ndarray) -> float | None:
    """The distance of samples uint8 (N, H, W, C) from the source's training data in its own features, from 0, alike, to
    1, nothing in common; None where the network keeps no statistics of its data, as transformers do not.

    A batch norm keeps mean and variance of each channel over the source's data, which tell domains apart (Li et al.
    2017, "Revisiting batch normalization for practical domain adaptation"). Taken as normal distributions N(m, s²) and
    N(n, t²), these and those of the samples have the squared Hellinger distance
    1 - √(2st / (s² + t²)) exp(-(m - n)² / 4(s² + t²)); this is its mean over the channels and the batch norms.
    """
    norms = [
        norm
        for norm in batch_norms(source.network.stages)
        if norm.running_mean is not None and int(norm.num_batches_tracked or 0)
    ]
    if not norms:
        return None
    sums: dict[nn.Module, list[Tensor]] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        values = given[0].detach().float()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        new = [values.mean(axes), values.square().mean(axes), torch.ones(())]
        weighed = [each.double().cpu() * len(values) for each in new]
        kept = sums.get(module)
        sums[module] = weighed if kept is None else [a + b for a, b in zip(kept, weighed, strict=True)]

    with ExitStack() as hooks:
        for norm in norms:
            hooks.enter_context(norm.register_forward_pre_hook(note))
        source.predict_features(samples)
    distances = []
    for norm in norms:
        if norm not in sums:
            continue
        total, squares, count = sums[norm]
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=1e-12)
        known_mean, known_variance = (
            each.double().cpu() for each in (norm.running_mean, norm.running_var) if each is not None
        )
        known_variance = known_variance.clamp(min=1e-12)
        both = variance + known_variance
        overlap = (2 * (variance * known_variance).sqrt() / both).sqrt()
        distances.append(float((1 - overlap * torch.exp(-(mean - known_mean).square() / (4 * both))).mean()))
    return float(np.mean(distances))
