"""Candidate sources: loading a model bundle from a URI, and pinning URIs to their content.

A source is a bundle's path, file:// or s3:// URI, `torchvision://<model>/<weights>`, `models:/<name>/<version>` or
`models:/<name>@<alias>`. The pinned form ends with `#sha256=<hex>`: the digest of the bundle, or of the weights file. A
search names several: `models:/*-source` is every registered model with such a name, and
`models:/*-source[domain=medical]` those of them with such a tag.
"""

import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit

import torch

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.bundle import FILES, ModelBundle, bundle_digest, versions
from headstart.models.reference import pin_of, pinned, unpinned
from headstart.storage import s3
from headstart.storage.digests import sha256_of
from headstart.storage.sums import SUMS

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

_TORCHVISION = "torchvision://"
_REGISTRY = "models:/"
_NO_REGISTRY = "{uri} names a registered model and no registry is at hand; give a bundle's path instead"


@dataclass(frozen=True)
class Background:
    """Facts about a source besides its content: its accuracy on its own test samples, the ids of the samples that it or
    its sources were trained on, and the path of its packed data set; None if unknown. `complete` is False if
    `learned_from` lacks the samples of one of its sources."""

    accuracy: float | None = None
    learned_from: frozenset[str] | None = None
    data: str | None = None
    complete: bool = True


def load_source(
    uri: str, *, modality: str | None = None, fetch_registered: Callable[[str], Path] | None = None
) -> ModelBundle:
    """Load a source; if `uri` is pinned, its content must match the pin.

    `modality` is the kind of data that it must read, None for any. `fetch_registered` downloads a `models:/…` URI
    (without pin) and returns the bundle's path.

    Raises:
        InputError: the URI is not understood, the content is missing, damaged or changed, or of another modality.
    """
    location, pin = unpinned(uri), pin_of(uri)
    if location.startswith(_TORCHVISION):
        bundle = _load_torchvision(location, pin)
    else:
        with _bundle_path(location, fetch_registered) as path:
            _check_pin(location, pin, bundle_digest(path))
            bundle = ModelBundle.load(path)
    if modality is not None and bundle.modality != modality:
        raise InputError(
            f"{uri} reads {bundle.modality} data, not {modality}; choose a source of the target's modality"
        )
    return bundle


def pin_source(uri: str, *, resolve_registered: Callable[[str], str] | None = None) -> str:
    """Return the pinned form of `uri`, which identifies its content; a pinned URI is returned unchanged.

    `resolve_registered` maps a `models:/…` URI to the pinned URI of its current version. Weights of torchvision are
    downloaded if they are not in torch's hub folder.

    Raises:
        InputError: as in `load_source`.
    """
    if pin_of(uri):
        return uri
    if uri.startswith(_REGISTRY):
        if resolve_registered is None:
            raise InputError(_NO_REGISTRY.format(uri=uri))
        return resolve_registered(uri)
    if uri.startswith(_TORCHVISION):
        architecture, weights = _torchvision_weights(uri)
        _download(weights)
        return pinned(f"{_TORCHVISION}{architecture}/{weights.name}", f"sha256:{sha256_of(_weights_file(weights))}")
    with _bundle_path(uri, None, files=(SUMS,)) as path:
        return pinned(uri if s3.is_s3(uri) else path.resolve().as_uri(), bundle_digest(path))


def pin_sources(
    uris: Sequence[str],
    *,
    resolve_registered: Callable[[str], str] | None = None,
    search_registered: Callable[[str], list[str]] | None = None,
) -> tuple[str, ...]:
    """Return the pinned form of each of `uris`, with searches replaced by their results and without duplicates, in
    order.

    `search_registered` maps a search to the pinned URIs of its current results.

    Raises:
        InputError: as in `load_source`, or a search finds nothing.
    """
    found: list[str] = []
    for uri in uris:
        if not is_search(uri):
            found.append(pin_source(uri, resolve_registered=resolve_registered))
        elif search_registered is None:
            raise InputError(_NO_REGISTRY.format(uri=uri))
        else:
            found += search_registered(uri)
    return tuple(dict.fromkeys(found))


def is_search(uri: str) -> bool:
    """Return whether a reference is a search for registered models rather than the name of one."""
    return uri.startswith(_REGISTRY) and pin_of(uri) is None and any(mark in uri for mark in "*?[")


def published_background(uri: str) -> Background:
    """Return the facts that torchvision publishes about the weights that `uri` names; an empty background for other
    sources."""
    if not uri.startswith(_TORCHVISION):
        return Background()
    figures = _torchvision_weights(unpinned(uri))[1].meta.get("_metrics", {}).get("ImageNet-1K", {})
    accuracy = figures.get("acc@1")
    return Background(accuracy=None if accuracy is None else accuracy / 100)


@contextmanager
def _bundle_path(
    location: str, fetch_registered: Callable[[str], Path] | None, files: Sequence[str] = FILES
) -> Iterator[Path]:
    """Yield a bundle's local directory; one from S3 has only `files` and is deleted after the block."""
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise InputError(f"{location} is not an address ({error}); correct it.") from None
    if location.startswith(_REGISTRY):
        if fetch_registered is None:
            raise InputError(_NO_REGISTRY.format(uri=location))
        yield fetch_registered(location)
    elif s3.is_s3(location):
        with tempfile.TemporaryDirectory() as folder:
            try:
                for name in files:
                    s3.download(f"{location.rstrip('/')}/{name}", Path(folder, name))
            except s3.UnreadableObject as error:
                raise InputError(
                    f"{location} is not a model bundle: {error}; correct it, or copy the bundle again"
                ) from error
            yield Path(folder)
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        yield Path(unquote(parts.path))
    elif "://" in location:
        raise InputError(
            f"{location} is not a source that can be read; give a bundle's path, file:/// or s3:// URI, "
            "torchvision://<model>/<weights>, models:/<name>/<version> or models:/<name>@<alias>"
        )
    else:
        yield Path(location)


def _load_torchvision(location: str, pin: str | None) -> ModelBundle:
    from headstart.models.torchvision import family, torchvision_network

    architecture, weights = _torchvision_weights(location)
    _download(weights)
    digest = f"sha256:{sha256_of(_weights_file(weights))}"
    _check_pin(location, pin, digest)
    classes = tuple(weights.meta["categories"])
    parts = family(architecture)
    with torch.random.fork_rng(devices=[]):
        network = torchvision_network(architecture, classes=len(classes), state=_read_state(weights))
    return ModelBundle(
        network=network.eval(),
        architecture=architecture,
        modality="image",
        preprocessing=_preprocessing(weights, rescaled_inside=parts.rescales_input),
        classes=classes,
        provenance={
            "role": "source",
            "name": f"{architecture}/{weights.name}",
            "strategy": None,
            "data_digest": None,
            "source": pinned(f"{_TORCHVISION}{architecture}/{weights.name}", digest),
            "source_digest": digest,
            "seed": None,
            "versions": versions(),
            "head": "none" if parts.pooled_width else "trained",
            "left_out": list(parts.left_out),
        },
    )


def _torchvision_weights(uri: str) -> tuple[str, "WeightsEnum"]:
    """Return the architecture and weights that a torchvision:// URI names."""
    from torchvision import models

    from headstart.models.torchvision import list_models

    architecture, _, name = uri.removeprefix(_TORCHVISION).partition("/")
    if architecture not in list_models():
        raise InputError(f"{uri}: torchvision has no classification model {architecture!r}; `vgg16` is one")
    known = models.get_model_weights(architecture)
    if name not in known.__members__:
        raise InputError(f"{uri}: {architecture} has no weights {name!r} but {', '.join(known.__members__)}")
    return architecture, known[name]


def _preprocessing(weights: "WeightsEnum", *, rescaled_inside: bool) -> Preprocessing:
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if rescaled_inside:
        mean, std = (0.5,) * 3, (0.5,) * 3
    return Preprocessing(size=transforms.crop_size[0], channels=3, mean=mean, std=std)


def _weights_file(weights: "WeightsEnum") -> Path:
    """Return the path of the weights file in torch's hub folder."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(weights.url).path).name)


def _download(weights: "WeightsEnum") -> None:
    """Download the weights file by torchvision's hub code if it is missing. That code compares a new file with the hash
    in its name, but does not check an existing file, which is why sources are pinned."""
    if not _weights_file(weights).exists():
        _read_state(weights)


def _read_state(weights: "WeightsEnum") -> dict[str, torch.Tensor]:
    file = _weights_file(weights)
    try:
        state: Any = weights.get_state_dict(check_hash=True, progress=False, weights_only=True)
    except URLError as error:
        raise InputError(
            f"cannot download {weights.url} ({error.reason}); put that file at {file} and run again"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        # Only tensors are unpickled. PyTorch's first line names other content; the rest explains how to allow it.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{file} cannot be read as weights ({reason}); remove it and run again") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{file} is not a state dict; put the file from {weights.url} there")
    return state


def _check_pin(uri: str, pin: str | None, found: str) -> None:
    if pin not in (None, found):
        raise InputError(f"{uri} was pinned to {pin} and its content is {found} now; pin it again or restore it")
