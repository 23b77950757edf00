"""Networks by name, each with what it reads."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.modalities import Modality
from headstart.registry import Registry

if TYPE_CHECKING:
    from headstart.models.network import Network

MAPS = "maps"
"""What image networks read: float32 (N, C, H, W)."""


@dataclass(frozen=True)
class Architecture:
    """`build(classes=…, channels=…)` gives a randomly initialised network; `reads` is what its first stage takes, which
    a modality `gives`."""

    build: "Callable[..., Network]"
    reads: str = MAPS


ARCHITECTURES = Registry("architectures", "headstart.models.architectures", "ARCHITECTURE", Architecture)
"""Those that are no library's: headstart's own and those that packages add."""


def list_architectures() -> list[str]:
    """Every name `build_network` takes, except `timm/<name>` (see `timm.list_models()` for those)."""
    from headstart.models import torchvision

    return [*ARCHITECTURES, *torchvision.list_models()]


def check_reads(architecture: str, kind: Modality) -> None:
    """InputError if the architecture does not read what the modality gives; `build_network` tells unknown names."""
    reads = ARCHITECTURES[architecture].reads if architecture in ARCHITECTURES else MAPS
    if reads != kind.gives:
        raise InputError(
            f"{architecture} reads {reads}, and {kind.noun}s are given as {kind.gives}; choose another, such as "
            f"{kind.default_architecture}."
        )


def build_network(architecture: str, *, classes: int, channels: int = 3) -> "Network":
    """A randomly initialised network: one of ARCHITECTURES, a torchvision model, or `timm/<name>` with the extra.

    The names are resolved in that order and torchvision is imported only for its own. InputError for an unknown
    name, with close ones, and for a missing extra.
    """
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture].build(classes=classes, channels=channels)
    if architecture.startswith("timm/"):
        from headstart.models.timm import timm_network

        return timm_network(architecture.removeprefix("timm/"), classes=classes, channels=channels)
    known = list_architectures()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3) or ["convnet", "resnet18", "mobilenet_v3_small"]
        raise InputError(f"unknown architecture {architecture!r}; close or common names: {', '.join(close)}")
    from headstart.models.network import adapt_channels
    from headstart.models.torchvision import torchvision_network

    network = torchvision_network(architecture, classes=classes)
    adapt_channels(network, channels)
    return network
