"""Images that tests of real services run: the MLflow server's own, and a stand-in for PostgreSQL's and SeaweedFS'."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.services.servers import fail, tail

ROOT = Path(__file__).parents[2]
BASE, MLFLOW, STORES = "headstart-test-base", "headstart-mlflow:test", "headstart-test-stores"


@functools.cache
def build_images() -> None:
    """Builds the server's image and the stand-in side by side, once in a session."""
    own_python = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    # Two builds of the base at once would both succeed; one of them would be for nothing.
    _finish("the base", _start(f"infra/image/test-base.sh {BASE}", own_python))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    weed = Path(shutil.which("weed", path=path) or fail("no weed")).parent
    builds = {
        MLFLOW: f"infra/image/build.sh {MLFLOW} --file infra/mlflow/Dockerfile --build-arg BASE_IMAGE={BASE}",
        STORES: f"docker buildx build --load --tag {STORES} --build-arg BASE_IMAGE={BASE} --build-context weed={weed} "
        "tests/services/images",
    }
    running = {name: _start(command, sys.executable) for name, command in builds.items()}
    for name, process in running.items():
        _finish(name, process)


def _start(command: str, python: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-c", command],  # noqa: S607
        cwd=ROOT, env=os.environ | {"PYTHON": python}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _finish(name: str, process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate()
    if process.returncode:
        fail(f"{name} cannot be built:\n{tail(output)}")
