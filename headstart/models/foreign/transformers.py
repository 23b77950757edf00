"""Image classifiers and encoders that transformers' `save_pretrained` wrote: config.json, safetensors, a processor."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InputError, shortened
from headstart.models.foreign import Original
from headstart.models.foreign.card import of_processor
from headstart.models.tracing import last_linear
from headstart.models.transformers import architecture_of, as_network, auto_class, configuration, examples, logits_of
from headstart.models.transformers import settings_of as settings_in

_SHOWN = 3


def of_config(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    processor: Mapping[str, Any] | None,
    *,
    at: str,
    facts: Mapping[str, Any],
) -> Original:
    """Return the model that a config.json describes, with the weights of a state dict.

    A checkpoint of the encoder alone has no head; tensors of other parts, such as CLIP's text encoder, are left out.

    Raises:
        InputError: the configuration asks for code or is of no image model, or the weights are another model's.
    """
    refuse_code(config, at)
    try:
        kind, settings = settings_in(config)
    except InputError as error:
        raise InputError(f"{at}: {error}") from None
    labels = labels_of(config)
    # A bundle's preprocessing says how many there are.
    channels = settings.pop("num_channels", 3)
    if channels not in (1, 3):
        raise InputError(f"{at} reads pictures of {channels} channels, and pictures have 1 or 3; choose another.")
    whole = configuration(kind, settings if channels == 3 else {**settings, "num_channels": channels})
    whole.num_labels = len(labels)
    empty = _empty(whole, at)
    check_size(empty, state, at)
    model, found = filled(type(empty), whole, state, at)
    head = last_linear(model, examples(model, channels), logits_of) or ""
    has_head = holds_head(found, [head], at)
    if not has_head:
        model.set_submodule(head, nn.Identity())
    classes = labels if has_head else ()
    return Original(
        architecture=architecture_of(kind, settings),
        preprocessing=of_processor(processor, _sized(config), channels=channels, at=at),
        classes=classes,
        network=lambda: as_network(model, classes=len(classes), channels=channels, has_head=has_head),
        call=lambda x: logits_of(model, x),
        head=has_head,
        name=kind,
        left_out=tuple(sorted({name.partition(".")[0] for name in found["unexpected_keys"]})),
        facts=facts,
    )


def refuse_code(config: Mapping[str, Any], at: str) -> None:
    """Refuse a model whose configuration asks for code, or whose weights are quantised; InputError."""
    if "auto_map" in config:
        raise InputError(
            f"{at}: config.json asks for code of its repository (auto_map), and none is run; choose another."
        )
    if config.get("quantization_config"):
        raise InputError(f"{at} holds quantised weights, which cannot be trained; choose the original model.")


def filled(classifier: Any, config: Any, state: Mapping[str, Tensor], at: str) -> tuple[Any, Mapping[str, Any]]:
    """Return a model of the class `classifier` with the weights, in eval mode, and what transformers says of their
    names. InputError if it cannot read them."""
    from transformers.utils import logging

    # What it reports of names is said here, or in the bundle's provenance.
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    with torch.random.fork_rng(devices=[]):
        try:
            model, found = classifier.from_pretrained(
                None, config=config, state_dict=dict(state), output_loading_info=True, dtype=torch.float32,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        # Foreign names and shapes meet the library's own conversions here.
        except Exception as error:
            raise InputError(f"{at} cannot be read by transformers: {shortened(str(error), 200)}") from None
        finally:
            logging.set_verbosity(level)
    return model.eval(), found


def holds_head(found: Mapping[str, Any], heads: Sequence[str], at: str) -> bool:
    """Return whether all parts at the paths `heads` are among the weights; InputError if another part is not."""
    beginnings = tuple(f"{head}." for head in heads)
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(beginnings))
    if missing or found["mismatched_keys"]:
        wrong = missing or sorted(str(each[0]) for each in found["mismatched_keys"])
        raise InputError(
            f"{at} does not hold the weights of its config.json: {len(wrong)} tensors are missing or of another shape, "
            f"{', '.join(shortened(name, 80) for name in wrong[:_SHOWN])} among them; copy it again."
        )
    return not found["missing_keys"]


def _empty(config: Any, at: str) -> nn.Module:
    return without_memory(lambda: auto_class().from_config(config, trust_remote_code=False), at)


def without_memory(build: Callable[[], nn.Module], at: str) -> nn.Module:
    """Return a model whose tensors have shapes and no values; InputError if its configuration describes none."""
    try:
        with torch.device("meta"):
            return build()
    except Exception as error:
        raise InputError(f"{at}: config.json describes no network: {shortened(str(error), 150)}") from None


def check_size(empty: nn.Module, state: Mapping[str, Tensor], at: str) -> None:
    """Refuse a configuration of a much larger network than the weights are, before memory is taken for it."""
    expected = sum(parameter.numel() for parameter in empty.parameters())
    held = sum(tensor.numel() for tensor in state.values())
    # A head for the classes of the configuration is all that may be missing.
    if expected > 2 * held + 2**24:
        raise InputError(
            f"{at}: config.json describes {expected:,} weights, and the files hold {held:,}; copy both again."
        )


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in the order of the logits; transformers' default is two."""
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        count = config.get("num_labels", 2)
        return tuple(map(str, range(count if isinstance(count, int) and 0 < count <= 2**20 else 2)))
    try:
        numbered = {int(number): str(name) for number, name in names.items()}
    except ValueError:
        raise InputError("config.json: id2label does not number the classes; correct it.") from None
    if sorted(numbered) != list(range(len(numbered))) or not numbered:
        raise InputError("config.json: id2label does not number the classes from 0 on; correct it.")
    return tuple(numbered[number] for number in range(len(numbered)))


def _sized(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the part that reads pictures."""
    inner = config.get("vision_config")
    return inner if isinstance(inner, Mapping) else config
