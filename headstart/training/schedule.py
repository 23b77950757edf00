"""The schedule of the learning rate: linear warm-up, then a cosine."""

from collections.abc import Callable

import numpy as np


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on the peak learning rate, by step from 0: it rises linearly over the first `warmup` share of `steps`
    and falls to 0 along half a cosine (Loshchilov and Hutter, "SGDR", 2017)."""
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, steps - rise)))

    return factor
