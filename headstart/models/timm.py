"""timm's networks as stages and a head; requires the extra `headstart[timm]`."""

import difflib

import torch
from torch import Tensor, nn

from headstart.errors import InputError
from headstart.models.network import Network, linear_head
from headstart.models.stages import cut_into_stages


def timm_network(name: str, *, classes: int, channels: int) -> Network:
    """Build a timm model, randomly initialised, with a new linear head instead of its classifier.

    If the model applies its children in sequence, they are cut into stages. If its forward does more (vision
    transformers add positions, for example), the whole model is one stage. This is determined by comparing the outputs
    for one random image at the model's own size.

    Raises:
        InputError: timm is not installed or has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(f"timm/{name} needs timm; install headstart[timm]") from error
    known = timm.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or ["resnet18", "efficientnet_lite0"]
        raise InputError(f"timm has no model {name!r}; close or common names: {', '.join(close)}")
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    size = model.pretrained_cfg["input_size"][-2:]  # type: ignore[index]
    image = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        vector = model.eval()(image)
        stages: list[nn.Module] = [*cut_into_stages(_parts(model))]
        if not _agrees(stages, image, vector):
            stages = [model]
    return Network(stages, linear_head(vector.shape[1], classes)).train()


def _parts(model: nn.Module) -> list[nn.Module]:
    """Return the model's children in order of registration, with containers replaced by their content."""
    parts: list[nn.Module] = []
    for child in model.children():
        parts.extend(child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child])
    return parts


def _agrees(stages: list[nn.Module], image: Tensor, vector: Tensor) -> bool:
    """Return whether applying `stages` in sequence gives `vector`."""
    try:
        for stage in stages:
            image = stage(image)
    except Exception:  # foreign modules may raise anything at the wrong place
        return False
    return isinstance(image, Tensor) and image.shape == vector.shape and torch.allclose(image, vector, atol=1e-5)
