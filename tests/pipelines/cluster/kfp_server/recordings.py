"""What a real server answered: see recordings/README.md."""

import functools
import json
import tarfile
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parents[1] / "recordings" / "recordings.tar.xz"


@functools.cache
def _texts() -> dict[str, str]:
    with tarfile.open(_FILE) as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive if member.isfile()}


def cases() -> list[str]:
    """The runs that were recorded."""
    return sorted({name.split("/")[1] for name in _texts() if name.startswith("runs/")})


def run(case: str) -> dict[str, Any]:
    """A run as the present API gave it."""
    return json.loads(_texts()[f"runs/{case}/run.json"])


def workflow(case: str) -> dict[str, Any]:
    """The workflow of a run as the API of release 1 gave it."""
    return json.loads(_texts()[f"runs/{case}/workflow.json"])


def log(step: str) -> str:
    """The log of a step of `transfer-compressed-running`: `pretrain` or `prepare source`."""
    return _texts()[f"logs/{step.replace(' ', '-')}.log"]
