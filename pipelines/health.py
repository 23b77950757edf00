"""Whether this installation, or this container, can run a pipeline's steps: `headstart check` without a recipe."""

import os
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from headstart.credentials import without_password
from headstart.errors import InputError
from headstart.tracking import database
from headstart.tracking.client import reach
from headstart.version import __version__

_LIBRARIES = ("torch", "torchvision", "mlflow", "kfp")
_MEGABYTE = 2**20


def health() -> Iterator[str]:
    """A line for each thing that was found in order, as it is found.

    Raises:
        InputError: the first thing that is not.
    """
    yield f"headstart   {__version__} on Python {platform.python_version()}, user {os.getuid()}"
    yield f"libraries   {', '.join(map(_loaded, _LIBRARIES))}"
    yield f"device      {_device()}"
    folder = Path(tempfile.gettempdir())
    yield f"temporary   {folder}: {_free(folder)} MB free"
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if shared.is_dir():
        space = os.statvfs(shared)
        yield f"shared      {shared}: {space.f_frsize * space.f_blocks // _MEGABYTE} MB"
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and not database.file_of(uri):
        reach(uri)
        yield f"MLflow      {without_password(uri)}"


def _loaded(library: str) -> str:
    try:
        __import__(library)
    except Exception as error:
        raise InputError(f"{library} cannot be loaded ({error}); install headstart anew.") from error
    return f"{library} {version(library)}"


def _device() -> str:
    """The device that networks are trained on, tried by a multiplication."""
    import torch

    from headstart.training.engine import DEVICE_VARIABLE, training_device

    device = training_device()
    try:
        total = torch.ones(8, 8, device=device).matmul(torch.ones(8, 8, device=device)).sum().item()
    except RuntimeError as error:
        raise InputError(f"{device} cannot compute ({error}); the driver may be older than torch's CUDA.") from error
    if total != 8**3:
        raise InputError(f"{device} computes wrongly: {total} instead of {8**3}; try another device.")
    if device.type == "cpu":
        why = "no GPU is seen" if torch.version.cuda else "torch is the build for CPUs"
        if torch.backends.mps.is_available():
            why = f"{DEVICE_VARIABLE}=mps trains on Apple's GPU"
        return f"CPU, {torch.get_num_threads()} threads; {why}"
    if device.type == "mps":
        return "Apple's GPU"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{', '.join(names)}; CUDA {torch.version.cuda}"


def _free(folder: Path) -> int:
    """The megabytes that are left where temporary files go, after one was written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"headstart")
            file.flush()
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); mount it writable, or set TMPDIR.") from error
    space = os.statvfs(folder)
    return space.f_frsize * space.f_bavail // _MEGABYTE
