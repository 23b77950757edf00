"""torchvision's published weights, and files of weights for its models."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from headstart.errors import InputError, first_line
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.foreign import Original
from headstart.models.foreign.weights import fitted, in_order, without_prefix

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

SCHEME = "torchvision://"


def published(uri: str) -> tuple[str, "WeightsEnum"]:
    """Return the architecture and weights that a torchvision:// URI names.

    Raises:
        InputError: there are none; known names are told.
    """
    from torchvision import models

    from headstart.models.torchvision import list_models

    architecture, _, name = uri.removeprefix(SCHEME).partition("/")
    if architecture not in list_models():
        raise InputError(f"{uri}: torchvision has no classification model {architecture!r}; `vgg16` is one")
    known = models.get_model_weights(architecture)
    if name not in known.__members__:
        raise InputError(f"{uri}: {architecture} has no weights {name!r} but {', '.join(known.__members__)}")
    return architecture, known[name]


def weights_file(weights: "WeightsEnum") -> Path:
    """Return the path of the weights file in torch's hub folder, downloaded by torchvision if it is missing.

    That code compares a new file with the hash in its name, but does not check an existing file, which is why sources
    are pinned. TORCH_HOME is honoured.
    """
    if not _place(weights).exists():
        _read_state(weights)
    return _place(weights)


def original(architecture: str, weights: "WeightsEnum") -> Original:
    """Return torchvision's model with its published weights."""
    from headstart.models.torchvision import family

    state = _read_state(weights)
    return _original(
        architecture,
        state,
        classes=tuple(weights.meta["categories"]),
        preprocessing=_preprocessing(weights, rescaled_inside=family(architecture).rescales_input),
        name=f"{architecture}/{weights.name}",
        at=str(_place(weights)),
    )


def of_state(architecture: str, state: Mapping[str, Tensor], *, at: str) -> Original:
    """Return torchvision's model with the weights of a state dict, of any number of classes, with or without a head.

    Its preprocessing is that of torchvision's own weights, and its classes are numbered.

    Raises:
        InputError: the weights are another model's.
    """
    from torchvision import models

    from headstart.models.torchvision import family

    parts = family(architecture)
    expected = _expected(architecture, 1000)
    state, prefix = without_prefix(state, expected)
    head = parts.head or "classifier"
    renamed = in_order(state, expected, parts.head) if parts.head else None
    state = state if renamed is None else renamed
    rows = state.get(f"{parts.head}.weight") if parts.head else None
    count = int(rows.shape[0]) if rows is not None and rows.ndim == 2 else 0
    expected = _expected(architecture, max(count, 1))
    ignored = parts.left_out
    state = {name: tensor for name, tensor in state.items() if not (ignored and name.startswith(ignored))}
    expected = {name: tensor for name, tensor in expected.items() if not (ignored and name.startswith(ignored))}
    fit, has_head, left_out = fitted(state, expected, head, of=f"torchvision's {architecture}", at=at)
    if not has_head and parts.head:
        fit |= {
            f"{parts.head}.{name}": torch.zeros(expected[f"{parts.head}.{name}"].shape) for name in ("weight", "bias")
        }
    weights = models.get_model_weights(architecture).DEFAULT
    made = _original(
        architecture,
        fit,
        classes=tuple(map(str, range(count))) if has_head else (),
        preprocessing=_preprocessing(weights, rescaled_inside=parts.rescales_input),
        name=architecture,
        at=at,
    )
    made.left_out = (*made.left_out, *left_out)
    made.facts = {**({"prefix": prefix} if prefix else {}), **({"names": "in order"} if renamed else {})}
    return made


def _quick(architecture: str) -> dict[str, Any]:
    from headstart.models.torchvision import family

    return {"aux_logits": False, "init_weights": False} if family(architecture).rescales_input else {}


def _original(
    architecture: str,
    state: Mapping[str, Tensor],
    *,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    name: str,
    at: str,
) -> Original:
    from headstart.models.torchvision import family, reference_model, torchvision_network

    parts = family(architecture)
    head = not parts.pooled_width and bool(classes)
    model: nn.Module | None = None

    def call(x: Tensor) -> Tensor:
        nonlocal model
        if model is None:
            model = reference_model(architecture, dict(state), classes=len(classes), logits=head)
        logits: Tensor = model(x)
        return logits

    return Original(
        architecture=architecture,
        preprocessing=preprocessing,
        classes=classes,
        network=lambda: torchvision_network(architecture, classes=len(classes), state=dict(state)),
        call=call,
        head=head,
        name=name,
        left_out=parts.left_out,
    )


def _preprocessing(weights: "WeightsEnum", *, rescaled_inside: bool) -> Preprocessing:
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if rescaled_inside:
        mean, std = (0.5,) * 3, (0.5,) * 3
    return Preprocessing(
        transforms.crop_size[0],
        3,
        mean,
        std,
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
    )


def _place(weights: "WeightsEnum") -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(weights.url).path).name)


def _read_state(weights: "WeightsEnum") -> dict[str, torch.Tensor]:
    file = _place(weights)
    try:
        state: Any = weights.get_state_dict(check_hash=True, progress=False, weights_only=True)
    except URLError as error:
        raise InputError(
            f"cannot download {weights.url} ({error.reason}); put that file at {file} and run again"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        # Only tensors are unpickled. PyTorch's first line names other content; the rest explains how to allow it.
        raise InputError(f"{file} cannot be read as weights ({first_line(error)}); remove it and run again") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{file} is not a state dict; put the file from {weights.url} there")
    return state


def _expected(architecture: str, classes: int) -> dict[str, Tensor]:
    """The tensors of an architecture by name, of which the shapes alone are of use."""
    from torchvision import models

    def build() -> dict[str, Tensor]:
        state: dict[str, Tensor] = models.get_model(
            architecture, num_classes=classes, **_quick(architecture)
        ).state_dict()
        return state

    try:
        # Without memory and time, where the widths of a network are no tensors, as RegNet's are.
        with torch.device("meta"):
            return build()
    except NotImplementedError:
        with torch.random.fork_rng(devices=[]):
            return build()
