"""Saliency maps: the parts of a sample that a prediction rests on; and the training samples that it resembles.

A map is worth looking at only if it depends on what the network has learned. So the same maps are made with a network
of random weights: where they look alike, the method shows the picture's edges and not the model (Adebayo et al. 2018,
"Sanity checks for saliency maps").
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.dataset import Dataset
from headstart.data.subsets import spread_out
from headstart.judging.kept_predictions import features_at, kept_features_of
from headstart.judging.reliability import hardest
from headstart.judging.token_explanation import can_be_explained, token_maps
from headstart.judging.wave_explanation import wave_maps
from headstart.metrics.predictions import Predictions
from headstart.modalities import modality
from headstart.models.architectures import ENSEMBLE, INT8, MAPS, WAVES, build_network
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.storage.state import State

# Grad-CAM needs a map to weigh: a convolution's output of at least this many positions a side.
_LEAST_SIDE = 4
_STEPS = 16
# Transformers are explained by many passes a picture, other networks by one.
_MOST_BY_GRADIENTS = 4
_PROTOTYPES = 3
# Training samples that are searched for similar ones.
_SEARCHED = 1000
# A rank correlation above it says that a map hardly depends on the weights.
ALIKE = 0.5


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps in [0, 1], of pictures (N, H, W, C) as (N, H, W), of texts, sequences and waveforms (L,) each: how much each
    pixel, letter or value speaks for the predicted class."""

    maps: Sequence[np.ndarray]
    method: str
    similarity: float
    """the mean rank correlation with the maps of a network of random weights: 1 alike, 0 not at all"""

    @property
    def sane(self) -> bool:
        """Whether random weights change the maps."""
        return self.similarity < ALIKE


@dataclass(frozen=True)
class Neighbour:
    """A training sample that the model finds similar, as an element of HTML."""

    shown: str
    label: str
    cosine: float


@dataclass(frozen=True)
class Sample:
    """A test item with its prediction and its saliency map, both as elements of HTML."""

    shown: str
    """empty where the map shows all of it"""
    heat: str
    """the sample under its map"""
    label: str
    predicted: str
    probability: float
    """of the label"""
    confidence: float
    """the probability of the predicted class"""
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Explained:
    """How the samples were explained, and whether the maps depend on what was learned."""

    method: str
    similarity: float
    sane: bool
    hardest: tuple[Sample, ...]
    right: tuple[Sample, ...]


def explained_samples(
    bundle: ModelBundle, dataset: Dataset, predictions: Predictions, count: int, *, seed: int
) -> Explained | None:
    """Explain the hardest test items and as many that are right, half of `count` each; None for a `count` of 0, where
    samples cannot be shown or are no maps, waveforms or tokens to a network, and for one that has no gradients."""
    if bundle.architecture.startswith(INT8):
        return None
    if has_attention(bundle.network):
        count = min(count, _MOST_BY_GRADIENTS)
    kind, of_tokens = dataset.kind, can_be_explained(bundle)
    if not count or not kind.is_shown or (kind.gives not in (MAPS, WAVES) and not of_tokens):
        return None
    train, test = dataset.split("train"), dataset.split("test")
    predicted = predictions.probabilities.argmax(axis=1)
    hard = hardest(predictions.labels, predictions.probabilities, (count + 1) // 2)
    right = np.setdiff1d(np.flatnonzero(predicted == predictions.labels), hard)
    typical = right[spread_out(predictions.labels[right], count // 2)]
    shown = np.concatenate([hard, typical])
    samples, prototypes = test.samples[shown], spread_out(train.labels, _SEARCHED)
    if of_tokens:
        explanation = explain_tokens(bundle, list(samples), predicted[shown], seed=seed)
    elif kind.gives == WAVES:
        explanation = explain_waves(bundle, list(samples), predicted[shown], seed=seed)
    else:
        explanation = explain(bundle, np.array(samples), predicted[shown], seed=seed)
    state = State.from_environment()
    nearest, cosines = nearest_training_samples(
        features_at(bundle, dataset, shown, state),
        kept_features_of(bundle, dataset, state, name="train", rows=prototypes),
        min(_PROTOTYPES, len(prototypes)),
    )

    def sample(row: int) -> Sample:
        item = int(shown[row])
        label = dataset.classes[predictions.labels[item]]
        neighbours = tuple(
            Neighbour(kind.as_html(train.samples[position], label, dataset.given, small=True), label, float(cosine))
            for position, cosine in zip(prototypes[nearest[row]], cosines[row], strict=True)
            for label in [dataset.classes[train.labels[position]]]
        )
        return Sample(
            # Nothing of a text is hidden under its map.
            shown="" if of_tokens else kind.as_html(samples[row], label, dataset.given),
            heat=kind.as_html(samples[row], "what the prediction rests on", dataset.given, heat=explanation.maps[row]),
            label=label,
            predicted=dataset.classes[predicted[item]],
            probability=float(predictions.probabilities[item, predictions.labels[item]]),
            confidence=float(predictions.probabilities[item].max()),
            neighbours=neighbours,
        )

    rows = [sample(row) for row in range(len(shown))]
    return Explained(
        explanation.method,
        explanation.similarity,
        explanation.sane,
        tuple(rows[: len(hard)]),
        tuple(rows[len(hard) :]),
    )


def explain(bundle: ModelBundle, samples: np.ndarray, classes: np.ndarray, *, seed: int = 0) -> Explanation:
    """Saliency maps for the predictions `classes`, int (N,), on samples uint8 (N, H, W, C).

    Grad-CAM at the last map of at least 4 x 4 positions in a convolutional network (Selvaraju et al. 2017);
    integrated gradients from the mean picture in 16 steps (Sundararajan, Taly and Yan 2017), absolute values summed
    over the channels and smoothed over a 16th of the side, in one with attention or without such a map, and in an
    ensemble.
    """
    bundle.network.eval()
    device = next(bundle.network.parameters()).device
    inputs = bundle.preprocessing(modality(bundle.modality).batch(samples).to(device))
    assert isinstance(inputs, Tensor)  # noqa: S101 (explained_samples asks for maps)
    targets = torch.from_numpy(np.asarray(classes)).to(device)
    fresh = with_random_weights(bundle, seed).network.to(device)
    # Of several networks side by side, a single map would be that of the last one.
    many = bundle.architecture.startswith(ENSEMBLE)
    by_gradients = many or has_attention(bundle.network) or _last_map(bundle.network, inputs[:1]) is None
    method = integrated_gradients if by_gradients else grad_cam
    found, control = (
        _at_size(method(network, inputs, targets), samples.shape[1:3]) for network in (bundle.network, fresh)
    )
    return _explanation(list(found), list(control), "integrated gradients" if by_gradients else "Grad-CAM")


def explain_tokens(
    bundle: ModelBundle, samples: Sequence[np.ndarray], classes: np.ndarray, *, seed: int = 0
) -> Explanation:
    """Maps for the predictions `classes`, int (N,), on stored texts or sequences, (L,) each, by integrated gradients of
    the tokens' embeddings (headstart/judging/token_explanation.py)."""
    fresh = with_random_weights(bundle, seed)
    fresh.network.to(next(bundle.network.parameters()).device)
    found, control = (token_maps(each, samples, classes) for each in (bundle, fresh))
    return _explanation(found, control, "integrated gradients")


def explain_waves(
    bundle: ModelBundle, samples: Sequence[np.ndarray], classes: np.ndarray, *, seed: int = 0
) -> Explanation:
    """Maps for the predictions `classes`, int (N,), on stored waveforms, (L,) each, by what silencing parts of them
    costs (headstart/judging/wave_explanation.py)."""
    fresh = with_random_weights(bundle, seed)
    fresh.network.to(next(bundle.network.parameters()).device)
    found, control = (wave_maps(each, samples, classes) for each in (bundle, fresh))
    return _explanation(found, control, "silenced parts")


def _explanation(found: Sequence[np.ndarray], control: Sequence[np.ndarray], method: str) -> Explanation:
    """The explanation by maps, (H, W) or (L,) each, beside those of random weights."""
    positive = [np.maximum(each, 0) for each in found]
    return Explanation(
        maps=[each / max(1e-12, each.max(initial=0)) for each in positive],
        method=method,
        similarity=_similarity(found, control),
    )


def with_random_weights(bundle: ModelBundle, seed: int = 0) -> ModelBundle:
    """A bundle of the same architecture and input with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(
            bundle.architecture, classes=len(bundle.classes), channels=bundle.preprocessing.channels
        )
    return replace(bundle, network=network.eval())


def has_attention(network: Network) -> bool:
    """Whether the network mixes positions by attention, as transformers do."""
    return any("Attention" in type(module).__name__ for module in network.stages.modules())


def grad_cam(network: Network, inputs: Tensor, targets: Tensor) -> Tensor:
    """(N, h, w): Σ_c a_c A_c over the channels A_c of the last map, a_c the mean gradient of the class's logit along
    it; what is above 0 speaks for the class."""
    from captum.attr import LayerGradCam  # type: ignore[import-untyped]

    network.eval()
    layer = _last_map(network, inputs[:1])
    assert layer is not None  # noqa: S101 (explain asks before)
    return LayerGradCam(network, layer).attribute(inputs, target=targets)[:, 0].detach()


def integrated_gradients(network: Network, inputs: Tensor, targets: Tensor) -> Tensor:
    """(N, H, W): Σ_c |(x - x') ∫ ∂logit(x' + t (x - x')) / ∂x dt|, smoothed; x' is the mean picture, which is 0 after
    normalisation."""
    from captum.attr import IntegratedGradients

    network.eval()
    found = IntegratedGradients(network).attribute(
        inputs, target=targets, n_steps=_STEPS, internal_batch_size=max(8, len(inputs))
    )
    maps = found.detach().float().abs().sum(dim=1, keepdim=True)
    side = 2 * (maps.shape[-1] // 32) + 1
    return nn.functional.avg_pool2d(maps, side, stride=1, padding=side // 2, count_include_pad=False)[:, 0]


def nearest_training_samples(features: np.ndarray, training: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of N samples with features (N, D) the positions (N, count) among the M training samples, whose features
    are (M, D), of the most similar ones, most similar first, and the cosines (N, count)."""
    ours, theirs = (each.astype(np.float64) for each in (features, training))
    for each in (ours, theirs):
        each /= np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12)
    cosines = ours @ theirs.T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return nearest, np.take_along_axis(cosines, nearest, axis=1)


def _last_map(network: Network, example: Tensor) -> nn.Module | None:
    """The module whose output is the last map (1, C, h, w) of at least 4 positions a side, or of as many as there are;
    None where nothing is a map."""
    seen: list[tuple[int, nn.Module]] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.append((min(output.shape[-2:]), module))

    with ExitStack() as hooks, torch.no_grad():
        for module in network.stages.modules():
            hooks.enter_context(module.register_forward_hook(note))
        network.features(example)
    least = min(_LEAST_SIDE, max((side for side, _ in seen), default=0))
    return next((module for side, module in reversed(seen) if side >= least), None)


def _at_size(maps: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Maps (N, h, w) as (N, H, W), with values between those of the given positions."""
    return (
        nn.functional.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0].cpu().numpy()
    )


def _similarity(found: Sequence[np.ndarray], control: Sequence[np.ndarray]) -> float:
    """The mean Spearman correlation of maps, those without contrast left out; 1 where none is left, as the check has
    failed then."""
    from scipy.stats import rankdata

    alike = []
    for pair in zip(found, control, strict=True):
        ours, theirs = (rank - rank.mean() for rank in (rankdata(each) for each in pair))
        if length := np.linalg.norm(ours) * np.linalg.norm(theirs):
            alike.append(float((ours * theirs).sum() / length))
    return float(np.mean(alike)) if alike else 1.0
