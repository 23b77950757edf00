import os
import subprocess

import pytest


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test, which `make test-services` names."""
    name = os.environ.get("HEADSTART_TEST_IMAGE")
    if not name:
        pytest.skip("HEADSTART_TEST_IMAGE names no image; `make image test-services` builds one and tries it")
    subprocess.run(["docker", "image", "inspect", name], check=True, stdout=subprocess.DEVNULL)  # noqa: S607
    return name
