"""Calibration: probabilities that mean what they say, by one number fitted on validation samples."""

import numpy as np

# No sensible network is off by more; a value at a bound means that the samples cannot tell.
_LOWEST, _HIGHEST = 0.05, 20.0


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T > 0 that makes softmax(logits / T) best calibrated on validation samples.

    Minimises the negative log-likelihood of `labels`, int (N,), given `logits`, (N, K): temperature scaling (Guo et
    al. 2017, "On Calibration of Modern Neural Networks", section 4.2), convex in 1/T. The order of the classes, and so
    every prediction, stays as it is.

    Where every validation sample is right, the likelihood alone would ask for certainty. So the samples are counted
    with one more whose label could be any: a share of 1 / (N + 1) of each label is spread evenly over the classes,
    which bounds T and weighs less the more samples there are. T lies in [0.05, 20]; it is 1 where there is no sample,
    and where any other would make the likelihood of the given labels lower than it is.
    """
    if len(labels) == 0:
        return 1.0
    from scipy.optimize import minimize_scalar

    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    labelled = logits[np.arange(len(labels)), labels].mean()
    spread = logits.mean()

    def loss(inverse: float, target: float) -> float:
        # No logit is above 0, and one of each sample is 0.
        return float(np.log(np.exp(inverse * logits).sum(axis=1)).mean() - inverse * target)

    share = 1 / (len(labels) + 1)
    smoothed = (1 - share) * labelled + share * spread
    found = minimize_scalar(
        lambda log_t: loss(np.exp(-log_t), smoothed), bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded"
    )
    temperature = float(np.exp(found.x))
    return temperature if loss(1 / temperature, labelled) < loss(1.0, labelled) else 1.0
