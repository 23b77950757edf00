"""Networks by name, each with what it reads."""

import difflib
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.modalities import Modality
from headstart.registry import Registry

if TYPE_CHECKING:
    from headstart.modalities.preprocessing import Preprocessing
    from headstart.models.network import Network

MAPS = "maps"
"""What image networks read: float32 (N, C, H, W)."""
TOKENS = "tokens"
"""What text networks read: a batch of `ids`, int64 (N, L), and `mask`, bool (N, L)."""
WAVES = "waves"
"""What networks for sound read: a batch of `wave`, float32 (N, L) in [-1, 1], and `mask`, bool (N, L)."""

ENSEMBLE = "ensemble/"
"""Begins the name of an ensemble's architecture, after which its members' number and architecture follow, or the
architectures of all."""
JOINED = "+"
"""Stands between the architectures of an ensemble's members."""

CLASSICAL = "classical/"
"""Begins the name of the architecture of a model of scikit-learn."""

INT8 = "int8/"
"""Begins the name of the architecture of a network of 8-bit whole numbers, after which that of its original follows."""


@dataclass(frozen=True)
class Architecture:
    """`build(classes=…, channels=…)` gives a randomly initialised network; `reads` is what its first stage takes, which
    a modality `gives`. With `settings`, a name may have some (`transformer?layers=6&width=384`), which `build` is given
    too; it raises ValueError for wrong ones."""

    build: "Callable[..., Network]"
    reads: str = MAPS
    settings: bool = False


# Begins the names of networks of transformers for sound.
_OF_WAVES = "waveform/"

# The extra of headstart that brings the library of a network, by what its name begins with.
_EXTRAS = {
    "timm/": "timm",
    "transformers/": "transformers",
    "contrastive/": "transformers",
    _OF_WAVES: "transformers",
    INT8: "onnx",
}

ARCHITECTURES = Registry("architectures", "headstart.models.architectures", "ARCHITECTURE", Architecture)
"""Those that are no library's: headstart's own and those that packages add."""


def list_architectures() -> list[str]:
    """Every name `build_network` takes, except those of timm and transformers (see `timm.list_models()`)."""
    from headstart.models import torchvision

    return [*ARCHITECTURES, *torchvision.list_models()]


def network_for(architecture: str, preprocessing: "Preprocessing", *, classes: int) -> "Network":
    """A randomly initialised network for samples as `preprocessing` gives them, which it has read one of.

    Raises:
        InputError: as in `build_network`; the network does not read such samples.
    """
    import torch

    from headstart.models.network import evaluated

    network = build_network(architecture, classes=classes, channels=preprocessing.channels)
    try:
        # Stages that torch.fx cut out of a model print their code where it fails.
        with evaluated(network), torch.inference_mode(), redirect_stderr(io.StringIO()):
            network.features(preprocessing.example(1))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        # A vision transformer of timm's is built for one size, say, which a setting names.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{architecture} does not read samples of {preprocessing.described} ({reason}); give them another size, or "
            "name that of the network where it has such a setting, as in timm/vit_tiny_patch16_224?img_size=64."
        ) from error
    return network


def check_reads(architecture: str, kind: Modality) -> None:
    """InputError if the architecture does not read what the modality gives; `build_network` tells unknown names."""
    if architecture.startswith(CLASSICAL):
        raise InputError(
            f"{architecture} is a model of scikit-learn, of which there is nothing to transfer; choose another source."
        )
    if architecture.startswith(INT8):
        raise InputError(
            f"{architecture[:200]} is of 8-bit whole numbers, which cannot be trained; choose what it was made of."
        )
    members = parse_ensemble(architecture) if architecture.startswith(ENSEMBLE) else (architecture,)
    if any(reads_of(each) != kind.gives for each in members):
        reads = reads_of(members[0])
        raise InputError(
            f"{architecture} reads {reads}, and {kind.noun}s are given as {kind.gives}; choose another, such as "
            f"{kind.default_architecture}."
        )


def reads_of(architecture: str) -> str:
    """What the first stage of a network takes, by its name: of those of libraries, maps or waves."""
    name = architecture.partition("?")[0]
    if name.startswith(_OF_WAVES):
        return WAVES
    return ARCHITECTURES[name].reads if name in ARCHITECTURES else MAPS


def parse_ensemble(architecture: str) -> tuple[str, ...]:
    """Return the architectures of the members, 2 to 100, from `ensemble/<count>/<architecture>` or
    `ensemble/<architecture>+<architecture>…`.

    Raises:
        InputError: the name is not of that form.
    """
    named = architecture.removeprefix(ENSEMBLE)
    count, _, member = named.partition("/")
    members = (member,) * min(int(count), 101) if count.isdecimal() and len(count) < 4 else tuple(named.split(JOINED))
    if not 2 <= len(members) <= 100 or not all(members) or any(each.startswith((ENSEMBLE, INT8)) for each in members):
        raise InputError(
            f"unknown architecture {architecture[:200]!r}; an ensemble's is ensemble/<2 to 100>/<architecture of its "
            f"members>, or ensemble/ and their architectures with {JOINED} between them"
        )
    return members


def extras_of(architecture: str) -> set[str]:
    """The extras of headstart by which a network of this name is run."""
    members = parse_ensemble(architecture) if architecture.startswith(ENSEMBLE) else (architecture,)
    return {extra for each in members for start, extra in _EXTRAS.items() if each.startswith(start)}


def build_network(architecture: str, *, classes: int, channels: int = 3) -> "Network":
    """A randomly initialised network: one of ARCHITECTURES, a torchvision model, `timm/<name>`,
    `transformers/<type>?<settings>`, `contrastive/<type>?<settings>` or `waveform/<type>?<settings>` with the extra
    that each needs, a `classical/…` one, an `ensemble/…` of these, or an `int8/…` one without its file.

    Torchvision is imported only for its own. InputError for an unknown name, with close ones, and for a missing extra.
    """
    name, mark, _ = architecture.partition("?")
    if name in ARCHITECTURES and (not mark or ARCHITECTURES[name].settings):
        return _own_network(architecture, classes=classes, channels=channels)
    if architecture.startswith("timm/"):
        from headstart.models.timm import timm_network

        return timm_network(architecture.removeprefix("timm/"), classes=classes, channels=channels)
    if architecture.startswith("transformers/"):
        from headstart.models.transformers import transformers_network

        return transformers_network(architecture.removeprefix("transformers/"), classes=classes, channels=channels)
    if architecture.startswith("contrastive/"):
        from headstart.models.contrastive import contrastive_network

        return contrastive_network(architecture.removeprefix("contrastive/"), classes=classes, channels=channels)
    if architecture.startswith(_OF_WAVES):
        from headstart.models.waveform import waveform_network

        return waveform_network(architecture.removeprefix(_OF_WAVES), classes=classes)
    if architecture.startswith(ENSEMBLE):
        from headstart.models.ensemble import ensemble

        members = [build_network(each, classes=classes, channels=channels) for each in parse_ensemble(architecture)]
        return ensemble(members, [1.0] * len(members))
    if architecture.startswith(INT8):
        from headstart.models.int8_network import int8_network

        return int8_network(classes)
    if architecture.startswith(CLASSICAL):
        from headstart.models.classical import classical_network

        return classical_network(architecture, classes=classes)
    known = list_architectures()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3) or ["convnet", "resnet18", "mobilenet_v3_small"]
        raise InputError(f"unknown architecture {architecture!r}; close or common names: {', '.join(close)}")
    from headstart.models.network import adapt_channels
    from headstart.models.torchvision import torchvision_network

    network = torchvision_network(architecture, classes=classes)
    adapt_channels(network, channels)
    return network


def _own_network(architecture: str, *, classes: int, channels: int) -> "Network":
    """One of ARCHITECTURES. InputError if it has no such settings."""
    from headstart.models.settings import split_settings

    name, settings = split_settings(architecture)
    try:
        return ARCHITECTURES[name].build(classes=classes, channels=channels, **settings)
    except (TypeError, ValueError) as error:
        if not settings:
            raise
        raise InputError(f"{name} cannot have the settings {settings}: {error}") from None
