"""References to models, pinned to their content: `models:/digits-source/3#sha256=…`.

A version that has no number yet, or whose number is not known, is referred to by its content:
`models:/digits-source/sha256:8c8c06725371#sha256=…`.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from headstart.errors import InputError

TORCHVISION, TIMM, HUB, REGISTRY, RUNS = "torchvision://", "timm://", "hf://", "models:/", "runs:/"
RECORD = (REGISTRY, RUNS)
"""The schemes of what MLflow's record holds: registered models, and what runs logged."""
WEB = ("https://", "http://")
PUBLISHED = (TORCHVISION, TIMM, HUB, *WEB)
"""The schemes of sources that are fetched from elsewhere and kept."""

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_MARK = "#sha256="
_ARCHITECTURE = "?architecture="
_CLASSES, _PROMPT = "?classes=", "&prompt="
# How many digits of the content stand in a version's place.
_DIGITS = 12


def pinned(uri: str, digest: str) -> str:
    """`uri` with the digest (`sha256:<hex>` or bare hex) that its content must have."""
    return unpinned(uri) + _MARK + digest.removeprefix("sha256:")


def is_weights(place: str) -> bool:
    """Return whether a path or address ends as a file of weights does."""
    return place.lower().endswith(_WEIGHTS)


def unpinned(uri: str) -> str:
    """`uri` without its digest."""
    return uri.partition(_MARK)[0]


def pin_of(uri: str) -> str | None:
    """The digest in a pinned reference, as `sha256:<hex>`; None where there is none."""
    _, mark, digest = uri.partition(_MARK)
    return f"sha256:{digest}" if mark else None


def by_content(model: str, digest: str) -> str:
    """The pinned reference to the version of the registered `model` that holds the content `digest`."""
    return pinned(f"models:/{model}/sha256:{digest.removeprefix('sha256:')[:_DIGITS]}", digest)


def numbered(text: str, version: str) -> str:
    """`text` with the number of a registered version wherever the version is referred to by its content.

    `version` is its pinned reference, `models:/<name>/<number>#sha256=<hex>`; where it is empty, nothing changes.
    """
    digest = pin_of(version)
    if digest is None:
        return text
    model = unpinned(version).removeprefix("models:/").rpartition("/")[0]
    return text.replace(unpinned(by_content(model, digest)), unpinned(version))


def split_architecture(location: str) -> tuple[str, str | None]:
    """Return the place of a file of weights, and the architecture that its reference names, if any:
    `weights.pth?architecture=resnet18`."""
    place, mark, architecture = location.partition(_ARCHITECTURE)
    return place, unquote(architecture) if mark else None


def with_architecture(location: str, architecture: str) -> str:
    """Return the reference to a file of weights of an architecture."""
    return f"{location}{_ARCHITECTURE}{architecture}"


@dataclass(frozen=True)
class Prompts:
    """Classes that a model of pictures and texts is asked about, and the text in which each takes the place of {}."""

    classes: tuple[str, ...]
    prompt: str = "a photo of a {}."

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes) or not all(self.classes):
            raise InputError("?classes= needs two or more different names with commas between them: ?classes=cat,dog.")
        if "{}" not in self.prompt:
            raise InputError(f"The prompt {self.prompt[:100]!r} has no {{}}, which stands for a class; put one in.")

    @property
    def texts(self) -> list[str]:
        """The text of each class."""
        return [self.prompt.replace("{}", name) for name in self.classes]


def split_prompts(location: str) -> tuple[str, Prompts | None]:
    """Return the place of a model, and what it is asked, if its reference says so:
    `hf://openai/clip-vit-base-patch32?classes=cat,dog&prompt=a sketch of a {}`.

    Raises:
        InputError: the names or the prompt cannot be used.
    """
    place, mark, query = location.partition(_CLASSES)
    if not mark:
        return place, None
    classes, mark, prompt = query.partition(_PROMPT)
    names = tuple(unquote(name).strip() for name in classes.split(","))
    return place, Prompts(names, unquote(prompt)) if mark else Prompts(names)


def with_prompts(location: str, prompts: Prompts) -> str:
    """Return the reference to a model that is asked about classes."""
    classes = ",".join(quote(name, safe="") for name in prompts.classes)
    return f"{location}{_CLASSES}{classes}{_PROMPT}{quote(prompts.prompt, safe='')}"


def published_architecture(uri: str) -> str | None:
    """Return the architecture of a model from elsewhere, as far as its reference tells: `transformers/` for one whose
    description is not read here. None for bundles and registered models."""
    place, architecture = split_architecture(unpinned(uri).partition(_CLASSES)[0])
    if architecture:
        return architecture
    if place.startswith(TORCHVISION):
        return place.removeprefix(TORCHVISION).partition("/")[0]
    if place.startswith(TIMM):
        return f"timm/{place.removeprefix(TIMM).partition('@')[0]}"
    if place.startswith((HUB, *WEB)):
        return "transformers/"
    if "://" in place or place.startswith(RECORD):
        return None
    return "transformers/" if Path(place, "config.json").is_file() and not Path(place, "SHA256SUMS").is_file() else None
