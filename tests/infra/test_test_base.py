"""infra/image/test-base.sh asks Debian for the packages that Python's libraries lie in, and fails with a reason."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.infra.manifests import INFRA

LIBRARY = "/usr/lib/libtest.so.6"


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the script with a dpkg that knows one path, and a debootstrap that names the packages and fails."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in {
        "docker": "exit 1",
        "ldd": f'echo "libtest.so.6 => {LIBRARY} (0x1)"',
        "realpath": 'printf "%s\\n" "$@"',
        "dpkg-query": '[ "$2" = "$KNOWN" ] || { echo "no path found" >&2; exit 1; }; echo "libtest6:amd64: $2"',
        "debootstrap": 'echo "$@"; exit 1',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)

    def run(known: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": sys.executable, "KNOWN": known}
        return subprocess.run(
            [INFRA / "image" / "test-base.sh"], env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.skipif(sys.base_prefix == "/usr", reason="the system's own Python cannot be copied alone")
@pytest.mark.parametrize("known", [LIBRARY, "/lib/libtest.so.6"])
def test_a_library_is_found_where_its_package_says_whether_or_not_that_is_below_usr(build, known):
    """Debian 12's dpkg knows libraries below /lib, which the kernel resolves to /usr/lib."""
    done = build(known)
    assert "--include=ca-certificates,libtest6 " in done.stderr
    assert done.returncode == 1


@pytest.mark.skipif(sys.base_prefix == "/usr", reason="the system's own Python cannot be copied alone")
def test_a_library_of_no_package_is_named_with_the_remedy(build):
    done = build("/elsewhere")
    assert done.returncode == 1
    assert f"no Debian package holds {LIBRARY}" in done.stderr
    assert "set PYTHON to" in done.stderr
    assert "--include" not in done.stderr
