"""Fitted regressors of scikit-learn, and classifiers of one label each, as modules of tensors: features (N, D) to
numbers or scores (N, K)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Values = tuple[tuple[int, ...], dict[str, np.ndarray]]


class LinearNumber(nn.Module):
    """Ridge regression on `width` features, or another linear function of them for each of `classes`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, width, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))

    def scores(self, features: Tensor) -> Tensor:
        """The linear function of features (N, D) in double precision: (N, classes)."""
        found: Tensor = features.double() @ self.weight.T + self.bias
        return found

    def forward(self, features: Tensor) -> Tensor:
        return self.scores(features).float()


class KernelNumber(nn.Module):
    """Support vector regression with the kernel exp(-γ‖x - s‖²) over `vectors` support vectors s, or another function
    of that kernel for each of `classes`."""

    support: Tensor
    gamma: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, vectors: int, width: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(vectors, width, dtype=torch.float64))
        self.register_buffer("gamma", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(classes, vectors, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))

    def scores(self, features: Tensor) -> Tensor:
        """The function of features (N, D) in double precision: (N, classes)."""
        x = features.double()
        squares = (x * x).sum(1, keepdim=True) + (self.support * self.support).sum(1) - 2 * x @ self.support.T
        return torch.exp(-self.gamma * squares.clamp(min=0)) @ self.weight.T + self.bias

    def forward(self, features: Tensor) -> Tensor:
        return self.scores(features).float()


def ridge_values(model: Any, scale: Any, turn: Any) -> Values:
    """The sizes and values of a Ridge on what `scale`, a StandardScaler, and then `turn`, a PCA, make of features."""
    weight, bias = on_features(np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_), scale, turn)
    return (weight.shape[1],), {"weight": weight, "bias": bias}


def on_features(weight: np.ndarray, bias: np.ndarray, scale: Any, turn: Any) -> tuple[np.ndarray, np.ndarray]:
    """The linear function of features that is `weight` (K, D) and `bias` (K,) of what `scale`, a StandardScaler, and
    then `turn`, a PCA, make of them; None for a step that is left out."""
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    if turn is not None:
        weight = weight @ turn.components_
        bias = bias - weight @ turn.mean_
    if scale is not None:
        weight = weight / scale.scale_
        bias = bias - weight @ scale.mean_
    return weight, bias


def svr_values(model: Any) -> Values:
    """The sizes and values of an SVR with an RBF kernel."""
    support = np.asarray(model.support_vectors_, dtype=np.float64)
    values = {
        "support": support,
        "gamma": np.array(model._gamma, dtype=np.float64),
        "weight": np.asarray(model.dual_coef_, dtype=np.float64),
        "bias": np.asarray(model.intercept_, dtype=np.float64),
    }
    return support.shape, values


def several_linear(models: Sequence[Any], width: int) -> Values:
    """The sizes and values of pipelines of StandardScaler, PCA or not, and LogisticRegression, one for each label; a
    number in the place of one is a constant score."""
    weight, bias = np.zeros((len(models), width)), np.zeros(len(models))
    for row, model in enumerate(models):
        if isinstance(model, float):
            bias[row] = model
            continue
        steps = model.named_steps
        logistic = steps["logisticregression"]
        found = on_features(logistic.coef_, logistic.intercept_, steps["standardscaler"], steps.get("pca"))
        weight[row], bias[row] = found[0][0], found[1][0]
    return (width,), {"weight": weight, "bias": bias}


def several_kernels(models: Sequence[Any], width: int) -> Values:
    """The sizes and values of SVCs of equal width of their RBF kernels, one for each label; a number as in
    `several_linear`."""
    fitted = [(row, model) for row, model in enumerate(models) if not isinstance(model, float)]
    bias = np.array([model if isinstance(model, float) else float(model.intercept_[0]) for model in models])
    vectors = np.concatenate([np.zeros((1, width)), *(model.support_vectors_ for _, model in fitted)])
    support, place = np.unique(vectors, axis=0, return_inverse=True)
    weight, start = np.zeros((len(models), len(support))), 1
    for row, model in fitted:
        stop = start + len(model.support_vectors_)
        weight[row, place.ravel()[start:stop]] = model.dual_coef_[0]
        start = stop
    gamma = float(fitted[0][1]._gamma) if fitted else 0.0
    values = {"support": support, "gamma": np.array(gamma), "weight": weight, "bias": bias}
    return support.shape, values


MACHINES: Mapping[str, Callable[..., nn.Module]] = {"ridge": LinearNumber, "svr": KernelNumber}
