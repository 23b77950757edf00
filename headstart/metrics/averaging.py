"""Weights by which models are averaged, from their losses on held-out samples."""

import numpy as np

_DRAWS = 1000
# Values that are in memory at a time.
_CHUNK = 1_000_000


def pseudo_bma(losses: np.ndarray) -> np.ndarray:
    """Weights (M,) of M models with log losses (M, N) on N samples, or on N groups of them: pseudo-BMA+.

    Yao, Vehtari, Simpson and Gelman 2018, "Using stacking to average Bayesian predictive distributions", section 3.4:
    the mean, over Bayesian bootstraps of the samples (Rubin 1981), of exp(-l_m) / Σ exp(-l) with l a model's loss over
    all samples. The bootstrap keeps few samples from speaking for one model alone. Equal losses give equal weights.
    """
    models, samples = losses.shape
    generator = np.random.default_rng(0)
    total = np.zeros(models)
    step = max(1, _CHUNK // max(samples, 1))
    for start in range(0, _DRAWS, step):
        draws = generator.standard_exponential((min(step, _DRAWS - start), samples))
        draws *= samples / draws.sum(axis=1, keepdims=True)
        likelihood = -draws @ losses.T
        shares = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        total += (shares / shares.sum(axis=1, keepdims=True)).sum(axis=0)
    weights: np.ndarray = total / total.sum()
    return weights
