"""vicreg: a source learns what two views of a sample share, without labels, to the last epoch.

It embeds the features of two variants of each sample with a projector, which is thrown away after training, and asks
for embeddings that agree within a pair and whose dimensions vary and do not repeat each other, so that they cannot
collapse to a point (Bardes, Ponce and LeCun, "VICReg: variance-invariance-covariance regularization for self-supervised
learning", ICLR 2022). Compared with SimCLR and with other ways to stop: docs/studies/self_supervised.md.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from headstart.training.objective import PretrainingObjective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.training.context import RunContext
    from headstart.training.plan import Plan
    from headstart.training.trained import Trained

_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0


def vicreg_loss(one: "Tensor", two: "Tensor") -> "Tensor":
    """25 s(Z, Z′) + 25 [v(Z) + v(Z′)] + c(Z) + c(Z′) of the embeddings (N, D) of two views, N ≥ 2; a scalar in float32.

    s is the mean of (z − z′)² over pairs and dimensions, v the mean over the dimensions of max(0, 1 − standard
    deviation), c the sum of the squared covariances between dimensions over D (algorithm 1 of the paper with its
    coefficients and its 1e-4 within the root).
    """
    from torch.nn import functional as F

    one, two = one.float(), two.float()
    loss = _INVARIANCE * F.mse_loss(one, two)
    for embeddings in (one, two):
        centred = embeddings - embeddings.mean(dim=0)
        deviations = (centred.square().sum(dim=0) / (len(centred) - 1) + 1e-4).sqrt()
        covariance = centred.T @ centred / (len(centred) - 1)
        off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
        loss = loss + _VARIANCE * F.relu(1 - deviations).mean() + _COVARIANCE * off_diagonal / embeddings.shape[1]
    return loss


def projector(feature_dim: int) -> "nn.Module":
    """The network from features (N, feature_dim) to the embeddings (N, 4 feature_dim) that are compared: three layers
    that expand, as covariances need dimensions to spread over (section 4.2 of the paper)."""
    from torch import nn

    width = 4 * feature_dim
    layers: list[nn.Module] = []
    for inputs in (feature_dim, width):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(width, width, bias=False))


def learn_views(bundle: "ModelBundle", dataset: "Dataset", plan: "Plan", context: "RunContext") -> "Trained":
    """Labels have no part in it, whether or not the data set has them: the same samples give the same weights."""
    from headstart.training.self_supervised import ViewLoss, fit_views

    return fit_views(bundle, dataset, plan, context, ViewLoss("vicreg", vicreg_loss, projector))


OBJECTIVE = PretrainingObjective(
    learn_views,
    learns_labels=False,
    plan=lambda plan: replace(plan, augmentation="views", patience=plan.epochs),
    no_meaning=("label_smoothing", "class_weights", "augmentation", "accumulate", "patience"),
    reason="which reads no labels, augments in its own way, compares all samples of a batch and trains to the end",
)
