"""`classical/<modality>/<descriptors>/<machine>/<sizes>`: a fitted model of scikit-learn as a network of tensors.

So it is a bundle like every model, without a pickle: predicted with, served, exported and averaged with others. Its
features are already logits, which the head passes on: logarithms of probabilities, or what a class loses by against
another. Machines compute in double precision, as scikit-learn's do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.errors import InputError
from headstart.modalities import Modality
from headstart.modalities import modality as find_modality
from headstart.modalities.batch import Inputs
from headstart.models.architectures import CLASSICAL
from headstart.models.network import Network, identity_head
from headstart.models.number_machines import (
    MACHINES,
    KernelNumber,
    LinearNumber,
    Values,
    on_features,
    ridge_values,
    several_kernels,
    several_linear,
    svr_values,
)

LEAST = 1e-6
"""The least probability: a forest's 0 means that none of its trees thought of the class, which is no certainty."""

# With it, temperatures that calibrate lie about 1: .5 to 1.8 on 17 of 21 targets' labels, between 2 and 20 a class.
_SLOPE = 8.0

# Values that a machine may hold: a bundle of half a gigabyte.
_MOST_VALUES = 60_000_000


class LinearMachine(LinearNumber):
    """Logistic regression on `width` features: log-probabilities (N, K)."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.log_softmax(self.scores(features), dim=1).clamp(min=math.log(LEAST)).float()


def lost_margins(margins: Tensor) -> Tensor:
    """Logits (N, K) from a support vector machine's `margins` (N, K (K - 1) / 2) in all pairs of classes (c, d), c < d,
    each above 0 where it speaks for c: 8 min(0, the least of a class's margins against all others).

    The class that beats all others has 0, and any other what it loses by most. It is the limit for large a of the
    coupling p_c ∝ 1 / Σ_d exp(-a margin_cd) (D. Price, S. Knerr, L. Personnaz and G. Dreyfus, "Pairwise neural network
    classifiers with probabilistic outputs", NIPS 1994), which predicts no better with an a that is fitted.
    """
    count = margins.shape[1]
    classes = (1 + math.isqrt(1 + 8 * count)) // 2
    first, second = np.triu_indices(classes, 1)
    # Where in the margins, their negatives and 0 one class's against another stands; against itself, 0.
    place = np.full((classes, classes), 2 * count)
    place[first, second], place[second, first] = np.arange(count), np.arange(count, 2 * count)
    known = torch.cat([margins, -margins, torch.zeros_like(margins[:, :1])], dim=1)
    against = known[:, torch.from_numpy(place.ravel()).to(margins.device)]
    return _SLOPE * against.unflatten(1, (classes, classes)).amin(dim=2)


class KernelMachine(KernelNumber):
    """A support vector machine with the kernel of `KernelNumber`: its `scores` are the margins in all pairs of classes,
    and its logits what a class loses by, `lost_margins`."""

    def __init__(self, classes: int, vectors: int, width: int) -> None:
        super().__init__(classes * (classes - 1) // 2, vectors, width)

    def forward(self, features: Tensor) -> Tensor:
        return lost_margins(self.scores(features)).float()


class VotingMachine(KernelMachine):
    """A support vector machine of a bundle that was written before logits were `lost_margins`.

    With two classes the logits are ∓ its margin; with more, the number of pairs of classes that a class wins and, below
    1/3 of it, the sum of its margins c in them, c / (3 (|c| + 1)), as scikit-learn's one-against-rest decisions are.
    """

    first: Tensor
    second: Tensor

    def __init__(self, classes: int, vectors: int, width: int) -> None:
        super().__init__(classes, vectors, width)
        # float64 (pairs, K): which class a pair's margin above 0 speaks for, and which one that below.
        for name, numbers in zip(("first", "second"), np.triu_indices(classes, 1), strict=True):
            self.register_buffer(name, torch.eye(classes, dtype=torch.float64)[numbers], persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        margins = self.scores(features)
        if margins.shape[1] == 1:
            return torch.cat([-margins, margins], dim=1).float()
        wins = (margins >= 0).double()
        votes = wins @ self.first + (1 - wins) @ self.second
        sums = margins @ (self.first - self.second)
        return (votes + sums / (3 * (sums.abs() + 1))).float()


class Forest(nn.Module):
    """`trees` decision trees of at most `nodes` nodes and `depth` decisions: log-probabilities (N, K), of the mean of
    what their leaves say."""

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor

    def __init__(self, classes: int, trees: int, nodes: int, depth: int) -> None:
        super().__init__()
        self.depth, self.nodes = depth, nodes
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(trees, nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(trees, nodes))
        self.register_buffer("value", torch.zeros(trees, nodes, classes))

    def forward(self, features: Tensor) -> Tensor:
        trees = len(self.feature)
        first = torch.arange(trees, device=features.device) * self.nodes
        feature, threshold = self.feature.flatten().long(), self.threshold.flatten()
        left, right = (each.flatten().long() for each in (self.left, self.right))
        # Not expanded to so many rows: an export would take their number for a constant.
        place = torch.zeros_like(features[:, :1], dtype=torch.long) + first
        for _ in range(self.depth):
            goes_left = features.gather(1, feature[place]) <= threshold[place]
            place = first + torch.where(goes_left, left[place], right[place])
        means = self.value.flatten(0, 1)[place].mean(dim=1)
        return torch.log(means.clamp(min=LEAST))


class _Described(nn.Module):
    """One kind of descriptors, float32 (N, D), of a batch as the modality's plain preprocessing gives it."""

    def __init__(self, kind: Modality, name: str) -> None:
        super().__init__()
        self.kind, self.name = kind, name

    def forward(self, inputs: Inputs) -> Tensor:
        found = self.kind.descriptors(inputs)
        if self.name not in found:
            raise InputError(
                f"{self.kind.noun}s have no descriptors {self.name!r}, which the model reads; fit it again."
            )
        return found[self.name]


_MACHINES: Mapping[str, Callable[..., nn.Module]] = {
    "logistic": LinearMachine,
    "svc": VotingMachine,
    "margin_svc": KernelMachine,
    "forest": Forest,
    **MACHINES,
}


def classical_network(architecture: str, *, classes: int) -> Network:
    """The network of a name as `classical_name` gives it, all values 0.

    Raises:
        InputError: the name is not of that form, or is that of a model that is too large.
    """
    try:
        of_modality, name, machine, sizes = architecture.removeprefix(CLASSICAL).split("/")
        numbers = [int(size) for size in sizes.split("x")]
        kind, build = find_modality(of_modality), _MACHINES[machine]
        too_large = min(numbers) < 1 or math.prod([*numbers, classes]) > _MOST_VALUES or len(sizes) > 30
        if too_large:
            raise ValueError(sizes)
        module = build(classes, *numbers)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"unknown architecture {architecture[:100]!r}; a classical model's is "
            "classical/<modality>/<descriptors>/<logistic, margin_svc, svc, forest, ridge or svr>/<sizes>"
        ) from error
    return Network([nn.Sequential(_Described(kind, name), module)], identity_head(classes))


def converted(
    model: Any, kind: Modality, descriptors: str, *, classes: int, scale: Any = None, turn: Any = None
) -> tuple[str, Network] | None:
    """The architecture's name and the network of a fitted model of scikit-learn; None where it is too large to be kept.

    `model` is a SVC or RandomForestClassifier that was fitted to one kind of descriptors, or a LogisticRegression on
    what `scale`, a StandardScaler, and then `turn`, a PCA, make of them. Its classes are 0 to `classes` - 1.
    """
    machine = next(name for name, (fitted, _) in _FITTED.items() if type(model).__name__ == fitted)
    if machine == "logistic":
        sizes, values = _logistic(model, classes, scale, turn)
    else:
        sizes, values = _FITTED[machine][1](model, classes)
    return _built(kind, descriptors, machine, sizes, values, classes)


def linear(weight: np.ndarray, bias: np.ndarray, kind: Modality, descriptors: str) -> tuple[str, Network] | None:
    """The architecture's name and the network of a linear classifier of one kind of descriptors, with `weight` (K, D)
    and `bias` (K,); None where it is too large to be kept."""
    values = {"weight": weight.astype(np.float64), "bias": bias.astype(np.float64)}
    return _built(kind, descriptors, "logistic", (weight.shape[1],), values, len(bias))


def converted_number(
    model: Any, kind: Modality, descriptors: str, *, scale: Any = None, turn: Any = None
) -> tuple[str, Network] | None:
    """The architecture's name and the network of a fitted regressor, as `converted` gives those of classifiers: an SVR,
    or a Ridge on what `scale` and `turn` make of the descriptors."""
    machine = {"SVR": "svr", "Ridge": "ridge"}[type(model).__name__]
    sizes, values = svr_values(model) if machine == "svr" else ridge_values(model, scale, turn)
    return _built(kind, descriptors, machine, sizes, values, 1)


def converted_labels(
    machine: str, models: Sequence[Any], width: int, kind: Modality, descriptors: str
) -> tuple[str, Network]:
    """The architecture's name and the network of fitted classifiers of one label each, which give its score: pipelines
    of StandardScaler, PCA or not, and LogisticRegression where `machine` is logistic, else SVCs of one kernel's width;
    a number is a constant score.

    Raises:
        InputError: they are too large to be kept.
    """
    sizes, values = (several_linear if machine == "logistic" else several_kernels)(models, width)
    found = _built(kind, descriptors, {"logistic": "ridge", "svc": "svr"}[machine], sizes, values, len(models))
    if found is None:
        raise InputError(
            f"The classical baseline of {len(models)} labels has more values than a bundle holds; leave classical out "
            "of the baselines, or give it fewer samples."
        )
    return found


def _built(
    kind: Modality, descriptors: str, machine: str, sizes: tuple[int, ...], values: dict[str, np.ndarray], classes: int
) -> tuple[str, Network] | None:
    if math.prod([*sizes, classes]) > _MOST_VALUES or sum(each.size for each in values.values()) > _MOST_VALUES:
        return None
    architecture = f"{CLASSICAL}{kind.name}/{descriptors}/{machine}/{'x'.join(map(str, sizes))}"
    network = classical_network(architecture, classes=classes)
    _, module = network.stages[0].children()
    module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in values.items()})
    return architecture, network.eval()


def _logistic(model: Any, classes: int, scale: Any, turn: Any) -> Values:
    weight, bias = on_features(model.coef_, model.intercept_, scale, turn)
    if classes == 2:
        # Of two classes, scikit-learn fits the second one's logit over the first one's.
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
    return (weight.shape[1],), {"weight": weight, "bias": bias}


def _svc(model: Any, classes: int) -> Values:
    of_class = np.repeat(np.arange(classes), model.n_support_)
    first, second = np.triu_indices(classes, 1)
    # The coefficient of a vector of class c in the pair with another class o stands in row o, less one where o > c.
    weight = np.where(of_class == first[:, None], model.dual_coef_[second - 1], 0.0)
    weight += np.where(of_class == second[:, None], model.dual_coef_[first], 0.0)
    support = np.asarray(model.support_vectors_, dtype=np.float64)
    # Of two classes, scikit-learn's values speak for the second one where they are above 0.
    sign = -1.0 if classes == 2 else 1.0
    # The kernel's width is a fitted one's where the setting is "scale".
    values = {
        "support": support,
        "gamma": np.array(model._gamma, dtype=np.float64),
        "weight": sign * weight,
        "bias": sign * np.asarray(model.intercept_, dtype=np.float64),
    }
    return support.shape, values


def _forest(model: Any, classes: int) -> Values:
    trees = [each.tree_ for each in model.estimators_]
    nodes, depth = max(tree.node_count for tree in trees), max(1, max(tree.max_depth for tree in trees))
    shape = (len(trees), nodes)
    values = {name: np.zeros(shape, dtype=np.int32) for name in ("feature", "left", "right")}
    values |= {"threshold": np.zeros(shape, np.float32), "value": np.zeros((*shape, classes), np.float32)}
    for row, tree in enumerate(trees):
        count, itself = tree.node_count, np.arange(tree.node_count)
        leaf = tree.children_left < 0
        values["feature"][row, :count] = np.where(leaf, 0, tree.feature)
        values["left"][row, :count] = np.where(leaf, itself, tree.children_left)
        values["right"][row, :count] = np.where(leaf, itself, tree.children_right)
        values["threshold"][row, :count] = _rounded_down(tree.threshold)
        share = tree.value[:, 0]
        values["value"][row, :count] = share / share.sum(axis=1, keepdims=True)
    return (len(trees), nodes, depth), values


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 values not above: a float32 feature is on the same side of both."""
    single = thresholds.astype(np.float32)
    return np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float32)


_FITTED: Mapping[str, tuple[str, Callable[..., Values]]] = {
    "logistic": ("LogisticRegression", _logistic),
    "margin_svc": ("SVC", _svc),
    "forest": ("RandomForestClassifier", _forest),
}
