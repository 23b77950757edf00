"""Weights of an architecture of timm, torchvision or headstart: `weights.pth?architecture=resnet18`, and folders whose
config.json describes them, as `headstart export --format torch` writes them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.errors import InputError, first_line, shortened
from headstart.modalities import modality
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.modalities.preprocessing import Preprocessing as AnyPreprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import unusable
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
    return _of_state(architecture, read_weights(path), at=at)


def of_description(
    config: Mapping[str, Any], state: dict[str, Tensor], *, at: str, facts: Mapping[str, Any]
) -> Original:
    """Return the model that a config.json with headstart's keys describes: library_name, architecture, modality,
    preprocessing, classes, temperature.

    Raises:
        InputError: a key is missing or wrong, or the weights are another model's.
    """
    wrong = unusable(config)
    if wrong:
        raise InputError(f"{at}: {', '.join(wrong)} of config.json cannot be used; export the model again.")
    reads, classes = modality(config["modality"]).preprocessing(config["preprocessing"]), tuple(config["classes"])
    rows = state.get("head.weight")
    if config.get("library_name") == "torchvision":
        made = _of_state(config["architecture"], state, at=at)
    else:
        # Checked before the network is built: one for a million classes takes gigabytes.
        if rows is None or rows.ndim != 2 or len(rows) != len(classes):
            raise InputError(f"{at} does not fit its {len(classes)} classes: see head.weight.")
        with torch.random.fork_rng(devices=[]):
            network = build_network(config["architecture"], classes=len(classes), channels=reads.channels).eval()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            told = shortened(" ".join(str(error).splitlines()[1:]) or first_line(error), 200)
            raise InputError(f"{at} does not hold the weights of {config['architecture']}: {told}") from None
        made = _of_network(network, config["architecture"], classes, reads)
    if len(made.classes) != len(classes):
        raise InputError(f"{at} has weights for {len(made.classes)} classes and names {len(classes)}; copy it again.")
    return replace(
        made,
        preprocessing=reads,
        classes=classes,
        modality=config["modality"],
        temperature=config["temperature"],
        facts={"license": config.get("license"), **made.facts, **facts},
    )


def _of_state(architecture: str, state: dict[str, Tensor], *, at: str) -> Original:
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
    classes = tuple(map(str, range(count))) if has_head else ()
    made = _of_network(network, architecture, classes, Preprocessing(size, channels, mean, std))
    return replace(made, left_out=left_out)


def _of_network(
    network: Network, architecture: str, classes: tuple[str, ...], preprocessing: AnyPreprocessing
) -> Original:
    return Original(
        architecture=architecture,
        preprocessing=preprocessing,
        classes=classes,
        network=lambda: network,
        call=network if classes else network.features,
        head=bool(classes),
        name=architecture,
    )
