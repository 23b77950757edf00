"""Image classifiers of transformers by name and settings: `transformers/vit?hidden_size=192&num_hidden_layers=6`.

Requires the extra `headstart[transformers]`. Settings are those of the model's configuration that are not its defaults.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InputError, first_line
from headstart.models.network import Network
from headstart.models.settings import check_settings, split_settings, with_settings
from headstart.models.timm import images
from headstart.models.tracing import Examples, NoHead, traced_network

PREFIX = "transformers/"
# Of every configuration: how a model is stored or used, not what it is.
_GENERAL = (
    "_name_or_path", "architectures", "auto_map", "chunk_size_feed_forward", "dtype", "id2label", "is_encoder_decoder",
    "label2id", "model_type", "num_labels", "output_attentions", "output_hidden_states", "problem_type", "return_dict",
    "torch_dtype", "transformers_version", "use_cache",
)  # fmt: skip
_LARGE = 256
# They load another library's model, from a hub, or are language models.
_REFUSED_TYPES = ("timm_wrapper", "shieldgemma2")


def transformers_network(name: str, *, classes: int, channels: int) -> Network:
    """Build an image classifier of transformers, randomly initialised, as stages and a linear head.

    Raises:
        InputError: transformers is not installed, has no such image classifier, or it has no such settings.
    """
    model = transformers_model(name, classes=classes, channels=channels)
    network = as_network(model, classes=classes, channels=channels, has_head=True)
    network.replace_head(classes)
    return network


def transformers_model(name: str, *, classes: int, channels: int) -> nn.Module:
    """Build transformers' own image classifier; errors as in `transformers_network`."""
    kind, settings = split_settings(name)
    if channels != settings.get("num_channels", 3):
        settings = {**settings, "num_channels": channels}
    config = configuration(kind, settings)
    config.num_labels = max(classes, 1)
    try:
        model: nn.Module = auto_class().from_config(config, trust_remote_code=False, dtype=torch.float32)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"transformers cannot build {kind} with {settings}: {first_line(error)}") from error
    return model


def auto_class() -> Any:
    """Return transformers' factory of image classifiers; InputError if it is not installed."""
    try:
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging
    except ImportError as error:
        raise InputError("models of transformers need the package; install headstart[transformers]") from error
    logging.disable_progress_bar()
    return AutoModelForImageClassification


def configuration(kind: str, settings: Mapping[str, Any]) -> Any:
    """Return transformers' configuration of the model type `kind` with settings that were checked.

    Raises:
        InputError: there is no image classifier of that type, or it has no such settings.
    """
    auto_class()
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )

    if kind in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        from headstart.models import waveform

        raise InputError(
            f"networks for sound of the type {kind} are not read; those that are: {', '.join(waveform.KINDS)}"
        )
    known = [each for each in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES if each not in _REFUSED_TYPES]
    if kind not in known:
        raise InputError(f"transformers has no image classifier of the type {kind!r}; it has {', '.join(known)}")
    try:
        usual = AutoConfig.for_model(kind).to_dict()
        unknown = sorted(key for key in settings if key not in usual or key in _GENERAL or key.startswith("_"))
        if unknown:
            raise InputError(f"{PREFIX}{kind} has no setting {', '.join(unknown)}; remove it")
        check_settings(settings, f"{PREFIX}{kind}")
        config = AutoConfig.for_model(kind, **settings)
        # Where a type has several classifiers, the first is taken.
        config.architectures = []
        return config
    except InputError:
        raise
    except Exception as error:  # its validators raise what they like
        raise InputError(f"{PREFIX}{kind} cannot have the settings {dict(settings)}: {first_line(error)}") from error


def settings_of(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the model type and the settings that are not its defaults, from the content of a config.json.

    Keys that its type does not know are left out: files have those of other versions and programs.

    Raises:
        InputError: there is no image classifier of that type, or a setting is refused.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise InputError("config.json has no model_type")
    settings = known_settings(configuration(kind, {}).to_dict(), config)
    check_settings(settings, f"{PREFIX}{kind}")
    return kind, settings


def known_settings(usual: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a network's structure in `config` that are not the `usual` ones, and that these have."""
    settings = {
        key: value
        for key, value in config.items()
        if key in usual and key not in _GENERAL and not key.startswith("_") and value != usual[key]
    }
    for key, value in settings.items():
        if isinstance(value, Mapping) and isinstance(usual[key], Mapping):
            settings[key] = {
                inner: content
                for inner, content in value.items()
                if inner in usual[key] and inner not in _GENERAL and content != usual[key][inner]
            }
    return settings


def architecture_of(kind: str, settings: Mapping[str, Any]) -> str:
    """Return the name that `build_network` takes."""
    return with_settings(f"{PREFIX}{kind}", settings)


def as_network(model: nn.Module, *, classes: int, channels: int, has_head: bool) -> Network:
    """Return a model of transformers as a `Network`.

    Raises:
        InputError: its classifier is no linear layer on a vector.
    """
    try:
        return traced_network(model, examples(model, channels), classes=classes, has_head=has_head, call=logits_of)
    except NoHead as error:
        raise InputError(f"{error} It cannot be a source; choose another model of transformers.") from error


def logits_of(model: nn.Module, pixels: Tensor) -> Tensor:
    """Run a model of transformers on pictures and return its logits (N, classes)."""
    logits: Tensor = model(pixel_values=pixels).logits
    return logits


def examples(model: nn.Module, channels: int) -> Examples:
    """Return batches of random images: of the model's own size, or small ones where it has none."""
    config: Any = model.config
    size = getattr(config, "image_size", None) or getattr(getattr(config, "vision_config", None), "image_size", None)
    if isinstance(size, list | tuple):
        size = size[0]
    small: list[Callable[[int], Tensor]] = [images(channels, {1: 96, 2: 96, 3: 128})]
    if size is None:
        return [*small, images(channels, dict.fromkeys((1, 2, 3), 224))]
    own = images(channels, dict.fromkeys((1, 2, 3), int(size)))
    # Convolutional networks read small ones too, in a tenth of the time.
    return [*small, own] if size > _LARGE else [own]
