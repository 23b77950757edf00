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

ENSEMBLE = "ensemble/"
"""Begins the name of an ensemble's architecture, after which its members' number and architecture follow."""


@dataclass(frozen=True)
class Architecture:
    """`build(classes=…, channels=…)` gives a randomly initialised network; `reads` is what its first stage takes, which
    a modality `gives`."""

    build: "Callable[..., Network]"
    reads: str = MAPS


ARCHITECTURES = Registry("architectures", "headstart.models.architectures", "ARCHITECTURE", Architecture)
"""Those that are no library's: headstart's own and those that packages add."""


def list_architectures() -> list[str]:
    """Every name `build_network` takes, except those of timm and transformers (see `timm.list_models()`)."""
    from headstart.models import torchvision

    return [*ARCHITECTURES, *torchvision.list_models()]


def check_reads(architecture: str, kind: Modality) -> None:
    """InputError if the architecture does not read what the modality gives; `build_network` tells unknown names."""
    member = parse_ensemble(architecture)[1] if architecture.startswith(ENSEMBLE) else architecture
    reads = ARCHITECTURES[member].reads if member in ARCHITECTURES else MAPS
    if reads != kind.gives:
        raise InputError(
            f"{architecture} reads {reads}, and {kind.noun}s are given as {kind.gives}; choose another, such as "
            f"{kind.default_architecture}."
        )


def parse_ensemble(architecture: str) -> tuple[int, str]:
    """Return the number and the architecture of the members from `ensemble/<count>/<architecture>`.

    Raises:
        InputError: the name is not of that form.
    """
    count, _, member = architecture.removeprefix(ENSEMBLE).partition("/")
    if not (count.isdecimal() and 2 <= int(count) <= 100 and member) or member.startswith(ENSEMBLE):
        raise InputError(
            f"unknown architecture {architecture!r}; an ensemble's is ensemble/<2 to 100>/<architecture of its members>"
        )
    return int(count), member


def build_network(architecture: str, *, classes: int, channels: int = 3) -> "Network":
    """A randomly initialised network: one of ARCHITECTURES, a torchvision model, `timm/<name>` or
    `transformers/<type>?<settings>` with the extra of that name, or `ensemble/<count>/<name>` of these.

    Torchvision is imported only for its own. InputError for an unknown name, with close ones, and for a missing extra.
    """
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture].build(classes=classes, channels=channels)
    if architecture.startswith("timm/"):
        from headstart.models.timm import timm_network

        return timm_network(architecture.removeprefix("timm/"), classes=classes, channels=channels)
    if architecture.startswith("transformers/"):
        from headstart.models.transformers import transformers_network

        return transformers_network(architecture.removeprefix("transformers/"), classes=classes, channels=channels)
    if architecture.startswith(ENSEMBLE):
        from headstart.models.ensemble import ensemble

        count, member = parse_ensemble(architecture)
        members = [build_network(member, classes=classes, channels=channels) for _ in range(count)]
        return ensemble(members, [1.0] * count)
    known = list_architectures()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3) or ["convnet", "resnet18", "mobilenet_v3_small"]
        raise InputError(f"unknown architecture {architecture!r}; close or common names: {', '.join(close)}")
    from headstart.models.network import adapt_channels
    from headstart.models.torchvision import torchvision_network

    network = torchvision_network(architecture, classes=classes)
    adapt_channels(network, channels)
    return network
