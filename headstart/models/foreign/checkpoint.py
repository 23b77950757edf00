"""Files of weights: `weights.pth?architecture=resnet18`, of an architecture of timm, torchvision or headstart."""

from pathlib import Path

import torch
from torch import Tensor

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.foreign import Original
from headstart.models.foreign.card import IMAGENET_MEAN, IMAGENET_STD
from headstart.models.foreign.weights import fitted, read_weights, without_prefix
from headstart.models.network import Network
from headstart.models.reference import with_architecture


def original(path: Path, architecture: str | None, *, at: str) -> Original:
    """Return the model of an architecture with a file's weights.

    Raises:
        InputError: no architecture is named, or the weights are another one's.
    """
    if architecture is None:
        raise InputError(
            f"{at} is a file of weights, which does not say whose; name their architecture: "
            f"{with_architecture(at, 'resnet18')} or --architecture resnet18, timm/vit_small_patch16_224, …"
        )
    state = read_weights(path)
    if architecture.startswith("timm/"):
        from headstart.models.foreign import timm

        return timm.original(architecture.removeprefix("timm/"), state, at=at)
    from headstart.models import torchvision

    if architecture in torchvision.list_models():
        from headstart.models.foreign.torchvision import of_state

        return of_state(architecture, state, at=at)
    return _own(architecture, state, at=at)


def _own(architecture: str, state: dict[str, Tensor], *, at: str) -> Original:
    """A network of headstart's, or of transformers by its name with settings, saved by the names of its stages."""
    with torch.random.fork_rng(devices=[]):
        expected = build_network(architecture, classes=1, channels=3).state_dict()
    state, _ = without_prefix(state, expected)
    rows = state.get("head.weight")
    count = int(rows.shape[0]) if rows is not None and rows.ndim == 2 else 0
    first = next((name for name, tensor in expected.items() if tensor.ndim == 4), "")
    channels = int(state[first].shape[1]) if first in state and state[first].ndim == 4 else 3
    if channels not in (1, 3):
        raise InputError(f"{at}: {first} reads {channels} channels, and pictures have 1 or 3.")
    with torch.random.fork_rng(devices=[]):
        network: Network = build_network(architecture, classes=count, channels=channels).eval()
    fit, has_head, left_out = fitted(state, network.state_dict(), "head", of=architecture, at=at)
    network.load_state_dict(fit, strict=has_head)
    size = 32 if architecture == "convnet" else 224
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,), (0.5,))
    return Original(
        architecture=architecture,
        preprocessing=Preprocessing(size, channels, mean, std),
        classes=tuple(map(str, range(count))) if has_head else (),
        network=lambda: network,
        call=network if has_head else network.features,
        head=has_head,
        name=architecture,
        left_out=left_out,
    )
