"""timm's networks by name; requires the extra `headstart[timm]`.

`timm/<model>`, `timm/<model>.<tag>`, and settings of the model's constructor: `timm/vit_tiny_patch16_224?img_size=96`.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InputError
from headstart.models.network import Network
from headstart.models.settings import check_settings, split_settings
from headstart.models.stages import cut_into_stages
from headstart.models.tracing import Examples, NoHead, traced_network

# Sides in pixels of the examples for networks that read any size: two, so that none becomes part of the network.
_SIDES = {1: 96, 2: 96, 3: 128}


def timm_network(name: str, *, classes: int, channels: int) -> Network:
    """Build a timm model, randomly initialised, as stages and a linear head.

    Raises:
        InputError: timm is not installed, has no such model, or the model has no such setting.
    """
    network = as_network(timm_model(name, classes=classes, channels=channels), classes=classes, channels=channels)
    network.replace_head(classes)
    return network


def timm_model(name: str, *, classes: int, channels: int, **options: Any) -> nn.Module:
    """Build timm's own model, with a classifier for at least one class; `options` are those of `timm.create_model`.

    Raises:
        InputError: as in `timm_network`.
    """
    try:
        import timm
        from timm.models import build_model_with_cfg
    except ImportError as error:
        raise InputError(f"timm/{name} needs timm; install headstart[timm]") from error
    base, settings = split_settings(name)
    check_name(base)
    taken = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    # The rest are places of files and what timm itself adds.
    refused = {*taken, "num_classes", "in_chans", "features_only", "out_indices", "pretrained_window_sizes"}
    check_settings(settings, f"timm/{base}", refused=refused)
    try:
        model: nn.Module = timm.create_model(
            base, **{"pretrained": False, **options}, num_classes=max(classes, 1), in_chans=channels, **settings
        )
    except (TypeError, ValueError, KeyError, AssertionError, AttributeError) as error:
        raise InputError(f"timm cannot build {base} with {settings}: {error}") from error
    return model


def check_name(name: str) -> None:
    """Refuse a name that is not a model of timm's, with or without a tag of published weights.

    Raises:
        InputError: it is not; close ones are named. timm is known to be installed.
    """
    import timm
    from timm.models import get_arch_pretrained_cfgs

    model, dot, tag = name.partition(".")
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3) or ["resnet18", "efficientnet_lite0"]
        raise InputError(f"timm has no model {model!r}; close or common names: {', '.join(close)}")
    if dot and name not in (known := get_arch_pretrained_cfgs(model)):
        raise InputError(f"timm has no weights {tag!r} for {model} but {', '.join(known) or 'none'}")


def as_network(model: nn.Module, *, classes: int, channels: int) -> Network:
    """Return a timm model as a `Network`; one whose classifier is no linear layer on a vector gets a new head."""
    try:
        return traced_network(model, examples(model, channels), classes=classes, has_head=True)
    except NoHead:
        model.reset_classifier(0)  # type: ignore[operator]
        return traced_network(model, examples(model, channels), classes=classes, has_head=False)


def under_new_names(name: str, state: dict[str, Tensor], network: Network, channels: int) -> dict[str, Tensor]:
    """Return the state dict of a bundle that a version of headstart wrote whose stages of timm models were the
    model's children in order, or the whole model, under the names of `network`."""
    with torch.random.fork_rng(devices=[]):
        model = timm_model(name, classes=0, channels=channels)
    model.reset_classifier(0)  # type: ignore[operator]
    names = {id(tensor): path for path, tensor in model.state_dict(keep_vars=True).items()}
    parts: list[nn.Module] = []
    for child in model.children():
        parts.extend(child.children() if isinstance(child, nn.Sequential | nn.ModuleList) else [child])
    former = nn.ModuleList(cut_into_stages(parts)).state_dict(keep_vars=True)
    own = {f"stages.{path}": names[id(tensor)] for path, tensor in former.items() if id(tensor) in names}
    own |= {f"stages.0.{path}": path for path in names.values() if f"stages.0.{path}" in state}
    # stages.<number>.<timm's own name>
    present = {path.split(".", 2)[2]: path for path in network.state_dict() if path.startswith("stages.")}
    return {present.get(own.get(path, ""), path): tensor for path, tensor in state.items()}


def examples(model: nn.Module, channels: int) -> Examples:
    """Return batches of random images: of small sizes if the model reads any, and of its own size."""
    cfg: Any = model.pretrained_cfg
    own = int(cfg["input_size"][-1])
    # A model that was built for another size than its weights' says so here.
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "img_size", None)
    if isinstance(size, tuple) and size:
        own = int(size[0])
    sized = [images(channels, dict.fromkeys(_SIDES, own))]
    return sized if cfg.get("fixed_input_size") else [images(channels, _SIDES), *sized]


def images(channels: int, sides: dict[int, int]) -> Callable[[int], Tensor]:
    """Return a function that makes so many random images, float32 (N, C, H, W), of the side that `sides` has for N."""
    return lambda count: torch.rand(
        count, channels, sides[count], sides[count], generator=torch.Generator().manual_seed(count)
    )
