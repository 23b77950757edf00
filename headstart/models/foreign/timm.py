"""timm's published weights, and directories and files of weights for timm's models."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InputError
from headstart.models.foreign import Original
from headstart.models.foreign.card import of_timm
from headstart.models.foreign.weights import fitted, in_order, without_prefix
from headstart.models.settings import split_settings, with_settings
from headstart.models.timm import as_network, check_name, timm_model


def published(name: str) -> dict[str, Any]:
    """Return timm's card of the weights `<model>.<tag>`, or of the default ones of `<model>`.

    Raises:
        InputError: timm is not installed, or has no such model or weights.
    """
    try:
        from timm.models import get_pretrained_cfg
    except ImportError as error:
        raise InputError(f"timm://{name} needs timm; install headstart[timm]") from error
    check_name(name)
    card = get_pretrained_cfg(name)
    if card is None or not card.has_weights:
        raise InputError(f"timm publishes no weights for {name}; choose another model, or give a file of weights.")
    return dict(card.to_dict())


def original(
    name: str,
    state: Mapping[str, Tensor],
    *,
    at: str,
    card: Mapping[str, Any] | None = None,
    classes: tuple[str, ...] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Original:
    """Return the timm model `name` with the weights of a state dict.

    `card` and `classes` are the weights' own where they have any; else the model's default card describes the
    preprocessing, and classes are numbered.

    Raises:
        InputError: the weights are another model's; `at` names their file.
    """
    base, settings = split_settings(name)
    empty = _empty(name, classes=1000, channels=3)
    head = str(_first(_card(empty).get("classifier")) or "")
    state = _converted(state, empty)
    state, prefix = without_prefix(state, empty.state_dict())
    renamed = in_order(state, empty.state_dict(), head)
    state = state if renamed is None else renamed
    rows = state.get(f"{head}.weight")
    count = int(rows.shape[0]) if rows is not None and rows.ndim >= 1 else 0
    first = str(_first(_card(empty).get("first_conv")) or "")
    kernels = state.get(f"{first}.weight")
    channels = int(kernels.shape[1]) if kernels is not None and kernels.ndim == 4 else 3
    expected = _empty(name, classes=count, channels=channels).state_dict()
    fit, has_head, left_out = fitted(state, expected, head, of=f"timm's {base}", at=at)
    with torch.random.fork_rng(devices=[]):
        model = timm_model(name, classes=count, channels=channels).eval()
    model.load_state_dict(fit, strict=False)
    if not has_head:
        model.reset_classifier(0)  # type: ignore[operator]
    found = dict(card or _card(model))
    found["input_size"] = [channels, *found["input_size"][1:]]
    if channels == 1 and len(found["mean"]) == 3:
        found |= {key: [sum(found[key]) / 3] for key in ("mean", "std")}
    if classes is None or len(classes) != count:
        classes = _names(model, count)
    classes = classes if has_head else ()
    return Original(
        architecture=f"timm/{with_settings(base, settings)}",
        preprocessing=of_timm(found, at=at),
        classes=classes,
        network=lambda: as_network(model, classes=len(classes), channels=channels),
        call=lambda x: model(x),
        head=has_head,
        name=base,
        left_out=left_out,
        facts={
            # A file's own licence is not that of the weights which are usual for its architecture.
            "license": card.get("license") if card else None,
            **({"prefix": prefix} if prefix else {}),
            **({"names": "in order"} if renamed else {}),
            **(facts or {}),
        },
    )


def _empty(name: str, *, classes: int, channels: int) -> nn.Module:
    """The model without memory for its weights, where its constructor can do without their values."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return timm_model(name, classes=classes, channels=channels)
        except (RuntimeError, NotImplementedError):
            return timm_model(name, classes=classes, channels=channels)


def of_config(config: Mapping[str, Any], state: Mapping[str, Tensor], *, at: str, facts: Mapping[str, Any]) -> Original:
    """Return the model that timm's `save_for_hf` or `push_to_hf_hub` wrote: a config.json and its weights.

    Raises:
        InputError: the configuration is not usable, or the weights are another model's.
    """
    card, settings = config.get("pretrained_cfg"), config.get("model_args") or {}
    name = config.get("architecture")
    if not isinstance(card, Mapping) or not isinstance(name, str) or not isinstance(settings, Mapping):
        raise InputError(f"{at}: config.json has no architecture and pretrained_cfg of timm; correct it.")
    check_name(name)
    if isinstance(tag := card.get("tag"), str) and tag:
        try:
            check_name(f"{name}.{tag}")
            name = f"{name}.{tag}"
        except InputError:
            # Weights of somebody's own.
            pass
    settings = {key: value for key, value in settings.items() if key not in ("num_classes", "in_chans")}
    if isinstance(pool := config.get("global_pool"), str):
        settings.setdefault("global_pool", pool)
    labels = config.get("label_names")
    classes = tuple(map(str, labels)) if isinstance(labels, list) else None
    return original(with_settings(name, settings), state, at=at, card=card, classes=classes, facts=facts)


def _converted(state: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """The state dict under timm's names: some of its files still have those of the models' authors."""
    import sys

    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or any(name in state for name in model.state_dict()):
        return state
    try:
        return dict(convert(dict(state), model))
    except Exception:  # not the authors' names either; they are compared below
        return state


def _names(model: nn.Module, count: int) -> tuple[str, ...]:
    """ImageNet's class names where the card says that the classes are ImageNet's, else numbers."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model) if count in (1000, 11821, 11221, 21841, 21843, 12000) else None
    if not subset:
        return tuple(map(str, range(count)))
    info = ImageNetInfo(subset)
    names = [info.index_to_description(index) for index in range(info.num_classes())]
    return tuple(names) if len(names) == count else tuple(map(str, range(count)))


def _card(model: nn.Module) -> dict[str, Any]:
    """timm's card of the weights that are usual for a model."""
    card: Any = model.pretrained_cfg
    return dict(card)


def _first(paths: Any) -> Any:
    return paths[0] if isinstance(paths, list | tuple) and paths else paths
