"""Packages from outside, as a user's own would be: installed for a test, and used by processes of their own."""

import subprocess
import sys
import tomllib
from pathlib import Path


def installed(source: Path, folder: Path) -> Path:
    """`folder` with the package in `source` as pip installs it: its modules, and its entry points beside them."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    (folder / name).symlink_to(source / name)
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{member} = {place}" for member, place in members.items())])
        for group, members in project["entry-points"].items()
    )
    (information / "entry_points.txt").write_text("\n".join(groups) + "\n")
    return folder


def run_python(*arguments: str) -> str:
    """What Python prints with these arguments, in a process of its own that ends well."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
