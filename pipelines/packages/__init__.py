"""The compiled pipelines as they come with headstart, so that a local run needs no compiler.

`GOLDEN=write .venv/bin/pytest tests/pipelines/test_packages.py` writes them anew after a change of a pipeline or a
component.
"""

import functools
from pathlib import Path

from headstart_pipelines.runner.package import Package

PACKAGES = Path(__file__).parent


@functools.cache
def packaged(pipeline: str) -> Package:
    """The compiled pipeline `pretrain`, `finetune` or `transfer`."""
    return Package.load(PACKAGES / f"{pipeline}.yaml")
