"""Export: a bundle in a format of other tools, read back as they read it and compared before it is kept."""

import re
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import HeadstartError, InputError
from headstart.metrics.task import SINGLE_LABEL
from headstart.models.bundle import ModelBundle
from headstart.models.exports import FORMATS, Format
from headstart.models.exports._readme import described
from headstart.models.library import NotTheLibrarys
from headstart.models.reference import REGISTRY, unpinned
from headstart.storage.local import new_directory

LARGEST_DIFFERENCE = 1e-4
"""Of an output, as a share of the largest output: what float32 loses when sums are taken in another order."""


@dataclass(frozen=True)
class Exported:
    """Where an export is, and the largest difference of an output from the bundle's on samples of noise."""

    path: Path
    difference: float


def format_of(name: str | None, path: Path | None) -> str:
    """Return the name of the format that is meant by a name, or by that of the file to write.

    Raises:
        InputError: neither tells, the two contradict each other, or there is no such format.
    """
    if name is None:
        found = [each for each in FORMATS if path and FORMATS[each].suffix and path.suffix == FORMATS[each].suffix]
        if not found:
            raise InputError(f"--format is not given; choose one of {', '.join(FORMATS)}, or -o FILE.onnx.")
        return found[0]
    if name not in FORMATS:
        raise InputError(f"There is no export format {name[:80]!r}; choose one of {', '.join(FORMATS)}.")
    suffix = FORMATS[name].suffix
    if path and suffix and path.suffix != suffix:
        raise InputError(f"-o {path}: the file's name must end in {suffix}.")
    return name


def place_of(uri: str, format: str) -> Path:
    """Return where an export is written unless told: beside what is here, named after the model and the format."""
    words = re.split(r"[^\w.-]+", unpinned(uri).rstrip("/").removeprefix(REGISTRY))
    name = "-".join(word for word in words if word.strip("."))[-80:] if uri.startswith(REGISTRY) else words[-1]
    suffix = FORMATS[format].suffix
    return Path(f"{name}{suffix}" if suffix else f"{name}-{format}")


def export(bundle: ModelBundle, path: Path, *, format: str, digest: str) -> Exported:
    """Write the bundle to `path`, a new folder or a file; `digest` is that of the bundle.

    Raises:
        InputError: the format cannot hold the bundle, which those that can are named for; a package is missing; or
            `path` is a folder with content.
        HeadstartError: the export computes something else, or PyTorch cannot export the network; nothing is written.
    """
    chosen = FORMATS[format]
    if reason := _reason_against(chosen, bundle):
        raise InputError(_refused(format, reason, bundle))
    try:
        if chosen.suffix:
            return Exported(path, chosen.write(bundle, path, digest=digest))
        return _in_folder(chosen, bundle, path, digest)
    except NotTheLibrarys as reason:
        raise InputError(_refused(format, str(reason), bundle)) from None


def _in_folder(chosen: Format, bundle: ModelBundle, path: Path, digest: str) -> Exported:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already; name a new folder.")
    with new_directory(path) as draft:
        difference = chosen.write(bundle, draft, digest=digest)
        limit = LARGEST_DIFFERENCE * max(1.0, _largest_output(bundle))
        # Negated, so that NaN is refused too.
        if not difference <= limit:
            raise HeadstartError(
                f"The exported {described(bundle)} differs from the bundle by {difference:.2g} in an output, more than "
                f"{limit:.2g}, and was not written; choose another format."
            )
    return Exported(path, difference)


def _largest_output(bundle: ModelBundle) -> float:
    samples = bundle.preprocessing.noise(2)
    outputs = (
        bundle.predict_logits(samples) / bundle.temperature if bundle.classes else bundle.predict_features(samples)
    )
    return float(abs(outputs).max())


def _reason_against(format: Format, bundle: ModelBundle) -> str | None:
    if bundle.task != SINGLE_LABEL and not format.holds_every_task:
        return f"it holds classifiers, and this model's task is {bundle.task}"
    return format.refusal(bundle)


def _refused(format: str, reason: str, bundle: ModelBundle) -> str:
    able = [name for name in FORMATS if name != format and _reason_against(FORMATS[name], bundle) is None]
    choice = " or ".join(part for part in (", ".join(able[:-1]), able[-1]) if part)
    return f"--format {format} cannot hold this model: {reason}; choose {choice}."
