"""Candidate sources: loading a model bundle from a URI, and pinning URIs to their content.

A source is a bundle, or a model from elsewhere that becomes one when it is read:

    bundle's path, file:// or s3:// URI     a model bundle
    models:/<name>/<version>, @<alias>      a version in the registry
    runs:/<run id>/<name>                   a model that a run logged
    torchvision://<model>/<weights>         torchvision's published weights
    timm://<model>[.<tag>][@<revision>]     timm's published weights
    hf://<org>/<model>[@<revision>]         a repository of the Hugging Face hub
    a folder's path or URI                  what save_pretrained wrote
    <file>?architecture=<name>              a .safetensors or .pth file of weights
    <hf:// or folder>?classes=cat,dog       a model of pictures and texts (CLIP, SigLIP) that tells these classes apart

Paths may also be file://, s3:// and https:// URIs. The pinned form ends with `#sha256=<hex>`: the digest of the bundle,
of the weights file, or of a folder's files. A search names several: `models:/*-source` is every registered model with
such a name, and `models:/*-source[domain=medical]` those of them with such a tag.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headstart.errors import InputError
from headstart.models.architectures import INT8
from headstart.models.bundle import FILES, ModelBundle, bundle_digest
from headstart.models.foreign import Original
from headstart.models.foreign import torchvision as torchvision_weights
from headstart.models.foreign.folder import CONFIG, WEIGHTS, ModelFolder
from headstart.models.foreign.hub import Repository
from headstart.models.reference import (
    HUB,
    PUBLISHED,
    RECORD,
    REGISTRY,
    TIMM,
    TORCHVISION,
    WEB,
    Prompts,
    is_weights,
    pin_of,
    pinned,
    split_architecture,
    split_prompts,
    unpinned,
    with_architecture,
    with_prompts,
)
from headstart.storage import s3
from headstart.storage.digests import sha256_of
from headstart.storage.http import download
from headstart.storage.state import State
from headstart.storage.sums import SUMS

_NO_REGISTRY = "{uri} names a model of MLflow's record and no registry is at hand; give a bundle's path instead"


@dataclass(frozen=True)
class Background:
    """Facts about a source besides its content: its accuracy on its own test samples, the ids of the samples that it or
    its sources were trained on, and the path of its packed data set; None if unknown. `complete` is False if
    `learned_from` lacks the samples of one of its sources."""

    accuracy: float | None = None
    learned_from: frozenset[str] | None = None
    data: str | None = None
    complete: bool = True


@dataclass(frozen=True)
class Found:
    """A source that was found: `location` is its URI with the revision that was met, `digest` that of its content.

    `original` reads a model from elsewhere; None for a bundle. Both functions may be called while it is open.
    """

    location: str
    digest: str
    bundle: Callable[[], ModelBundle]
    original: Callable[[], Original] | None = None

    @property
    def reference(self) -> str:
        """The pinned URI."""
        return pinned(self.location, self.digest)


def load_source(
    uri: str, *, modality: str | None = None, fetch_registered: Callable[[str], Path] | None = None
) -> ModelBundle:
    """Load a source; if `uri` is pinned, its content must match the pin.

    `modality` is the kind of data that it must read, None for any. `fetch_registered` downloads a `models:/…` or
    `runs:/…` URI (without pin) and returns the bundle's path. What a pinned URI names that was fetched from elsewhere
    is kept in the state that the environment names, so that other steps need no network.

    Raises:
        InputError: the URI is not understood, the content is missing, damaged or changed, of another modality, or a
            network of 8-bit whole numbers where a modality asks for one to train on.
    """
    bundle = _kept(uri)
    if bundle is None:
        with open_source(uri, fetch_registered=fetch_registered) as found:
            bundle = found.bundle()
        _keep(uri, bundle)
    if modality is not None and bundle.modality != modality:
        raise InputError(
            f"{uri} reads {bundle.modality} data, not {modality}; choose a source of the target's modality"
        )
    if modality is not None and bundle.architecture.startswith(INT8):
        raise InputError(
            f"{uri} is a network of 8-bit whole numbers, which cannot be trained on; choose the model it was made of"
        )
    return bundle


def pin_source(uri: str, *, resolve_registered: Callable[[str], str] | None = None) -> str:
    """Return the pinned form of `uri`, which identifies its content; a pinned URI is returned unchanged.

    `resolve_registered` maps a `models:/…` or `runs:/…` URI to the pinned one of its content. Published weights are
    downloaded if they are not in the cache of their library.

    Raises:
        InputError: as in `load_source`.
    """
    if pin_of(uri):
        return uri
    if uri.startswith(RECORD):
        if resolve_registered is None:
            raise InputError(_NO_REGISTRY.format(uri=uri))
        return resolve_registered(uri)
    with open_source(uri, files=(SUMS,)) as found:
        return found.reference


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
    return uri.startswith(REGISTRY) and pin_of(uri) is None and any(mark in uri for mark in "*?[")


def published_background(uri: str) -> Background:
    """Return the facts that torchvision publishes about the weights that `uri` names; an empty background for other
    sources."""
    if not uri.startswith(TORCHVISION):
        return Background()
    figures = torchvision_weights.published(unpinned(uri))[1].meta.get("_metrics", {}).get("ImageNet-1K", {})
    accuracy = figures.get("acc@1")
    return Background(accuracy=None if accuracy is None else accuracy / 100)


@contextmanager
def open_source(
    uri: str, *, fetch_registered: Callable[[str], Path] | None = None, files: Sequence[str] = FILES
) -> Iterator[Found]:
    """Yield a source whose content matches the pin, if `uri` has one. Of a bundle in S3 only `files` are fetched.

    Raises:
        InputError: as in `load_source`, when it is opened or read.
    """
    location = unpinned(uri)
    with _open(location, fetch_registered, files) as found:
        pin = pin_of(uri)
        if pin not in (None, found.digest):
            raise InputError(
                f"{location} was pinned to {pin} and its content is {found.digest} now; pin it again or restore it"
            )
        yield found


@contextmanager
def _open(location: str, fetch_registered: Callable[[str], Path] | None, files: Sequence[str]) -> Iterator[Found]:
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise InputError(f"{location} is not an address ({error}); correct it.") from None
    asked = location
    location, prompts = split_prompts(location)
    place, architecture = split_architecture(location)
    if prompts and (is_weights(place) or location.startswith((TORCHVISION, TIMM, *RECORD))):
        raise InputError(
            f"{asked} is no folder or hf:// repository of a model of pictures and texts; leave classes out."
        )
    if location.startswith(TORCHVISION):
        yield _of_torchvision(location)
    elif location.startswith(TIMM):
        yield _of_timm(location)
    elif location.startswith(HUB):
        yield _of_hub(location, prompts)
    elif location.startswith(RECORD):
        if fetch_registered is None:
            raise InputError(_NO_REGISTRY.format(uri=location))
        yield _of_path(fetch_registered(location), location)
    elif s3.is_s3(location) or location.startswith(WEB):
        with tempfile.TemporaryDirectory() as folder:
            if is_weights(place):
                path = Path(folder, Path(urlsplit(place).path).name)
                _fetch(place, path)
                yield _of_weights(path, architecture, location)
            else:
                yield _of_remote_folder(location, Path(folder), files, prompts)
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        yield _of_path(Path(unquote(urlsplit(place).path)), location, architecture, prompts)
    elif "://" in location:
        raise InputError(
            f"{location} is not a source that can be read; give a bundle's path, file:/// or s3:// URI, "
            "torchvision://<model>/<weights>, timm://<model>, hf://<org>/<model>, models:/<name>/<version>, "
            "models:/<name>@<alias> or runs:/<run id>/<name>"
        )
    else:
        path = Path(place).resolve()
        uri = path.as_uri() if architecture is None else with_architecture(path.as_uri(), architecture)
        yield _of_path(Path(place), uri, architecture, prompts)


def _of_path(path: Path, location: str, architecture: str | None = None, prompts: Prompts | None = None) -> Found:
    if is_weights(path.name) and not path.is_dir():
        return _of_weights(path, architecture, location)
    folder = ModelFolder.local(path, str(path))
    if (path / SUMS).is_file() or not folder.is_model:
        _refuse(prompts, location)
        return Found(location, bundle_digest(path), lambda: ModelBundle.load(path))
    return _of_folder(folder, location, prompts=prompts)


def _refuse(prompts: Prompts | None, location: str) -> None:
    if prompts:
        raise InputError(f"{location} is a bundle, which has its classes; leave ?classes= out.")


def _of_remote_folder(location: str, folder: Path, files: Sequence[str], prompts: Prompts | None) -> Found:
    base = location.rstrip("/")

    def find(name: str) -> Path | None:
        path = folder / name
        if not path.exists():
            try:
                _fetch(f"{base}/{name}", path)
            except InputError:
                return None
        return path

    if not s3.is_s3(location):
        if find(SUMS) is None and find(CONFIG) is not None:
            return _of_folder(ModelFolder(find, location), location, prompts=prompts)
    else:
        try:
            s3.download(f"{base}/{SUMS}", folder / SUMS)
        except s3.UnreadableObject as error:
            if find(CONFIG) is not None:
                return _of_folder(ModelFolder(find, location), location, prompts=prompts)
            raise InputError(
                f"{location} is not a model bundle: {error}; correct it, or copy the bundle again"
            ) from error
    _refuse(prompts, location)
    for name in files:
        if not (folder / name).exists():
            _fetch(f"{base}/{name}", folder / name)
    return Found(location, bundle_digest(folder), lambda: ModelBundle.load(folder))


def _of_folder(
    folder: ModelFolder, location: str, revision: str | None = None, prompts: Prompts | None = None
) -> Found:
    digest = folder.digest(prompts)
    facts = {"revision": revision} if revision else {}
    place = with_prompts(location, prompts) if prompts else location
    return _foreign(place, digest, lambda: folder.original(facts, prompts))


def _of_weights(path: Path, architecture: str | None, location: str) -> Found:
    from headstart.models.foreign import checkpoint

    if not path.is_file():
        raise InputError(f"There is no file {path}; give a .safetensors or .pth file of weights.")
    digest = f"sha256:{sha256_of(path)}"
    return _foreign(
        location, digest, lambda: checkpoint.original(path, architecture, at=split_architecture(location)[0])
    )


def _of_torchvision(location: str) -> Found:
    architecture, weights = torchvision_weights.published(location)
    digest = f"sha256:{sha256_of(torchvision_weights.weights_file(weights))}"
    place = f"{TORCHVISION}{architecture}/{weights.name}"
    return _foreign(place, digest, lambda: torchvision_weights.original(architecture, weights))


def _of_timm(location: str) -> Found:
    from headstart.models.foreign import timm
    from headstart.models.foreign.weights import read_weights

    name, _, revision = location.removeprefix(TIMM).partition("@")
    card = timm.published(name)
    if not card.get("hf_hub_id"):
        raise InputError(
            f"{location}: timm does not publish these weights on the hub but at {card.get('url')}; download that file "
            "and import it with --architecture."
        )
    repository = Repository(str(card["hf_hub_id"]), revision or None, uri=location)
    file = repository.file(str(card.get("hf_hub_filename") or WEIGHTS))
    place = f"{TIMM}{name}@{repository.commit}" if repository.commit else f"{TIMM}{name}"
    facts = {"revision": repository.commit} if repository.commit else {}
    return _foreign(
        place,
        f"sha256:{sha256_of(file)}",
        lambda: timm.original(name, read_weights(file), at=location, card=card, facts=facts),
    )


def _of_hub(location: str, prompts: Prompts | None) -> Found:
    name, _, revision = location.removeprefix(HUB).partition("@")
    repository = Repository(name, revision or None, uri=location)
    repository.file(CONFIG)
    place = f"{HUB}{name}@{repository.commit}" if repository.commit else location
    return _of_folder(ModelFolder(repository.optional, location), place, repository.commit, prompts)


def _foreign(location: str, digest: str, original: Callable[[], Original]) -> Found:
    return Found(location, digest, lambda: original().bundle(location, digest), original)


def _fetch(uri: str, path: Path) -> None:
    if not s3.is_s3(uri):
        download(uri, path)
        return
    try:
        s3.download(uri, path)
    except s3.UnreadableObject as error:
        raise InputError(f"{uri} cannot be read: {error}; correct it, or copy the model again") from error


def _name_in_state(uri: str) -> str | None:
    """The folder in the state of what is fetched from elsewhere; None for what is at hand, or is not pinned."""
    pin = pin_of(uri)
    return f"sources/{pin.removeprefix('sha256:')}" if pin and uri.startswith(PUBLISHED) else None


def _kept(uri: str) -> ModelBundle | None:
    name, state = _name_in_state(uri), State.from_environment()
    if name is None or state is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        if not all(state.get(f"{name}/{file}", Path(folder, file)) for file in FILES):
            return None
        bundle = ModelBundle.load(Path(folder))
    return bundle if bundle.provenance.get("source_digest") == pin_of(uri) else None


def _keep(uri: str, bundle: ModelBundle) -> None:
    name, state = _name_in_state(uri), State.from_environment()
    if name is None or state is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder, "bundle"))
        for file in FILES:
            state.put(Path(folder, "bundle", file), f"{name}/{file}")
