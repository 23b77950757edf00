"""Networks by name."""

import difflib

from headstart.errors import InputError
from headstart.models.convnet import convnet
from headstart.models.network import Network, adapt_channels


def list_architectures() -> list[str]:
    """Every name `build_network` takes, except `timm/<name>` (see `timm.list_models()` for those)."""
    from headstart.models import torchvision

    return ["convnet", *torchvision.list_models()]


def build_network(architecture: str, *, classes: int, channels: int = 3) -> Network:
    """A randomly initialised network: `convnet`, a torchvision model's name, or `timm/<name>` with the extra.

    The names are resolved in that order and torchvision is imported only for its own. InputError for an unknown
    name, with close ones, and for a missing extra.
    """
    if architecture == "convnet":
        return convnet(classes=classes, channels=channels)
    if architecture.startswith("timm/"):
        from headstart.models.timm import timm_network

        return timm_network(architecture.removeprefix("timm/"), classes=classes, channels=channels)
    known = list_architectures()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3) or ["convnet", "resnet18", "mobilenet_v3_small"]
        raise InputError(f"unknown architecture {architecture!r}; close or common names: {', '.join(close)}")
    from headstart.models.torchvision import torchvision_network

    network = torchvision_network(architecture, classes=classes)
    adapt_channels(network, channels)
    return network
