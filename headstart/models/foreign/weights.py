"""State dicts in files of strangers: safetensors, or torch's format read by `weights_only`, and their names."""

import pickle
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from headstart.errors import InputError, first_line, shortened
from headstart.models.bundle import is_pickle

# Where training programs put the state dict in what they save.
_KEYS = ("state_dict", "model_state_dict", "model", "model_ema", "state_dict_ema", "module", "net", "weights")
_LONGEST_HEADER = 32 * 2**20
_SHOWN = 3
# Fewer may fit by chance.
_LEAST_TENSORS = 20


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a file's state dict: dense tensors on the CPU, floating-point ones as float32.

    Nothing is executed: a file in torch's format may hold tensors and plain containers only.

    Raises:
        InputError: it is missing, damaged, holds anything else, no tensors, or values that are not finite.
    """
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; give a .safetensors or .pth file of weights.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); give a file of weights.") from None
    return {name: _checked(tensor, name, path) for name, tensor in state.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) == 8 and struct.unpack("<Q", start)[0] > _LONGEST_HEADER:
        _refuse_pickle(path)
        raise InputError(f"{path} begins with a header of more than 32 MB, which no model has; it is damaged.")
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, KeyError, MemoryError) as error:
        _refuse_pickle(path)
        raise InputError(f"{path} is not a whole safetensors file ({first_line(error)}); copy it again.") from None


def _refuse_pickle(path: Path) -> None:
    """Say of a file that is no safetensors that it is a pickle, where it is one."""
    if is_pickle(path):
        raise InputError(f"{path} is called safetensors and is a pickle, which can run code; save it as safetensors.")


def _torch(path: Path) -> dict[str, Tensor]:
    try:
        # Mapped where the format allows it: what a file declares is never more than what it holds.
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors, which could run code when it is read ({first_line(error)}); save the "
            "model's state_dict() alone, as safetensors best."
        ) from None
    # A damaged archive or a hostile one raises whatever its parser stumbles on.
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights ({first_line(error)}); copy or save it again.") from None
    state = _state_dict(content)
    if state is None:
        raise InputError(
            f"{path} holds no state dict ({_described(content)}); save the model's state_dict(), as safetensors best."
        )
    return state


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    """The tensors by name in what a training program saved; None if there are none."""
    if not isinstance(content, Mapping):
        return None
    for key in _KEYS:
        if isinstance(inner := content.get(key), Mapping) and (found := _state_dict(inner)):
            return found
    if not content or not all(isinstance(key, str) for key in content):
        return None
    if not all(isinstance(value, Tensor) for value in content.values()):
        return None
    return dict(content)


def _checked(tensor: Tensor, name: str, path: Path) -> Tensor:
    where = f"{path}: the tensor {shortened(name)!r}"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise InputError(f"{where} is not dense or is quantised; save the weights as float32.")
    # A few bytes can declare terabytes by strides of 0.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{where} declares more values than the file holds; it is damaged.")
    if not tensor.is_floating_point():
        return tensor.contiguous()
    tensor = tensor.float().contiguous()
    if not torch.isfinite(tensor).all():
        raise InputError(f"{where} has values that are no finite numbers; its training diverged, or it is damaged.")
    return tensor


def without_prefix(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors under the names that the network has, and the prefix that was taken off (`module.`,
    `backbone.`); names that do not begin with it keep what they have."""
    overlap = sum(name in expected for name in state)
    ends = {name.rpartition(".")[2] for name in expected}
    prefixes = Counter[str]()
    for name in state:
        if name.rpartition(".")[2] not in ends:
            continue
        parts = name.split(".")
        for count in range(1, len(parts)):
            if ".".join(parts[count:]) in expected:
                prefixes[".".join(parts[:count]) + "."] += 1
    prefix, matched = prefixes.most_common(1)[0] if prefixes else ("", 0)
    if matched <= overlap:
        return dict(state), ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}, prefix


def in_order(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: str) -> dict[str, Tensor] | None:
    """Return the tensors of a convolutional network that another library saved under names of its own, under those that
    the network has; None if that cannot be said for certain.

    Layers stand in the order in which they run. Every tensor must have the kind (weight, running_mean) and shape of the
    one in its place, the number of classes of the linear classifier `head` apart. Networks with further matrices are
    not taken: an encoder's query, key and value have equal shapes, and libraries order them differently.
    """
    pairs = list(zip(state, expected, strict=False))
    if len(state) != len(expected) or any(name in expected for name in state) or len(pairs) < _LEAST_TENSORS:
        return None
    for theirs, ours in pairs:
        classifies = bool(head) and ours.startswith(f"{head}.")
        start = int(classifies)
        given, wanted = state[theirs].shape, expected[ours].shape
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or given[start:] != wanted[start:]:
            return None
        if len(given) != len(wanted) or (len(wanted) in (2, 3) and not classifies):
            return None
    return {ours: state[theirs] for theirs, ours in pairs}


def fitted(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: str, *, of: str, at: str
) -> tuple[dict[str, Tensor], bool, tuple[str, ...]]:
    """Return the tensors that a network of the architecture `of` takes, whether its head is among them, and the first
    parts of the names that it has no use for.

    `head` is the path of the network's linear classifier. Another part of the model that was saved with the network, a
    projector or a second classifier, is left out; a tensor that is missing, of another shape, or of a part that the
    network has but knows otherwise, is refused.

    Raises:
        InputError: the file `at` holds another network.
    """
    is_head = {name for name in expected if head and name.startswith(f"{head}.")}
    has_head = bool(is_head) and all(name in state for name in is_head)
    wanted = set(expected) - (set() if has_head else is_head)
    parts = {name.partition(".")[0] for name in expected}
    missing = sorted(name for name in wanted if name not in state)
    unknown = sorted(
        name for name in state if name not in expected and name.partition(".")[0] in parts and name not in is_head
    )
    # Counters of batch norms are no weights, and older files have none.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    shaped = sorted(name for name in wanted if name in state and state[name].shape != expected[name].shape)
    left = {name.partition(".")[0] for name in state if name not in expected}
    if missing or shaped or (unknown and not set(unknown) <= is_head):
        told = [
            f"{len(names)} {what} ({', '.join(shortened(name, 80) for name in names[:_SHOWN])})"
            for names, what in ((missing, "missing"), (unknown, "unknown"), (shaped, "of another shape"))
            if names
        ]
        raise InputError(f"{at} does not hold the weights of {of}: tensors are {', '.join(told)}; name another one.")
    return {name: state[name] for name in wanted if name in state}, has_head, tuple(sorted(left))


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"its keys are {', '.join(shortened(str(key), 40) for key in list(content)[:5]) or 'none'}"
    return f"it is a {type(content).__name__}"
