"""What the numbers of a benchmark depend on beside the code."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from typing import Any

from headstart.training.timings import processor


def machine(threads: int, libraries: Iterable[str]) -> dict[str, Any]:
    """Processors, Python, and the versions of the libraries."""
    import torch

    return {
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }


def commit() -> str:
    """The project's commit, short; with a + where files differ from it."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
