"""Encoders of pictures that learned beside one of texts: `contrastive/clip?projection_dim=512`, and SigLIP's.

Their features are the embeddings of length 1 that are compared with those of texts (Radford et al. 2021, "Learning
transferable visual models from natural language supervision"; Zhai et al. 2023, "Sigmoid loss for language image
pre-training"); the texts' part is not needed any more. Requires the extra `headstart[transformers]`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InputError, first_line
from headstart.models.network import Network
from headstart.models.settings import split_settings, with_settings
from headstart.models.tracing import NoHead, traced_network
from headstart.models.transformers import configuration, examples

PREFIX = "contrastive/"
KINDS = {"clip": "CLIPModel", "siglip": "SiglipModel"}
"""Model types, and transformers' class of the whole model."""
_TOWERS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
_KEYS = ("projection_dim", "vision_config")


class ImageTower(nn.Module):
    """Pictures (N, C, H, W) to logits (N, classes): a linear layer on embeddings of length 1.

    Tensors have the names that they have in the whole model, the classifier's apart.
    """

    def __init__(self, kind: str, config: Any, classes: int) -> None:
        import transformers

        super().__init__()
        self.config = config
        self.vision_model = getattr(transformers, _TOWERS[kind])._from_config(config.vision_config)
        width = config.vision_config.hidden_size
        if kind == "clip":
            self.visual_projection: nn.Module = nn.Linear(width, config.projection_dim, bias=False)
            width = config.projection_dim
        else:
            self.visual_projection = nn.Identity()
        self.classifier = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        embedded = self.visual_projection(self.vision_model(pixel_values=pixels).pooler_output)
        logits: Tensor = self.classifier(embedded / embedded.norm(p=2, dim=-1, keepdim=True))
        return logits


def contrastive_network(name: str, *, classes: int, channels: int) -> Network:
    """Build an encoder of pictures, randomly initialised, as stages and a linear head.

    Raises:
        InputError: transformers is not installed, or there is no such encoder or setting.
    """
    kind, settings = split_settings(name)
    if kind not in KINDS or channels != 3:
        raise InputError(f"unknown architecture {PREFIX}{kind[:80]!r}; known are {', '.join(KINDS)}, of RGB pictures")
    unknown = sorted(settings.keys() - set(_KEYS))
    if unknown:
        raise InputError(f"{PREFIX}{kind} has no setting {', '.join(unknown)}; remove it")
    try:
        tower = ImageTower(kind, configuration(kind, settings), max(classes, 1))
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"transformers cannot build {kind} with {settings}: {first_line(error)}") from error
    network = as_network(tower, classes=classes)
    network.replace_head(classes)
    return network


def as_network(tower: ImageTower, *, classes: int) -> Network:
    """Return an encoder as a `Network` of the same function."""
    try:
        return traced_network(tower, examples(tower, 3), classes=classes, has_head=True)
    except NoHead as error:
        raise InputError(f"{error} It cannot be a source; choose another model.") from error


def architecture_of(kind: str, settings: Mapping[str, Any]) -> str:
    """Return the name that `build_network` takes, from the settings of the whole model."""
    return with_settings(f"{PREFIX}{kind}", {key: settings[key] for key in _KEYS if key in settings})


def init_tower(kind: str, config: Any, classes: int) -> ImageTower:
    """Build an encoder of pictures on the CPU; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return ImageTower(kind, config, classes).eval()
