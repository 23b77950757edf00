"""What the images are installed from covers the project's dependencies, and nothing else can get in."""

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def required_by(extra: str) -> list[str]:
    """What an extra and those that it consists of require."""
    found = []
    for line in EXTRAS[extra]:
        asked = Requirement(line)
        others = [each for name in sorted(asked.extras) for each in required_by(name)]
        found += others if asked.name == PROJECT["name"] else [line]
    return found


IN_THE_IMAGE = [*PROJECT["dependencies"], *required_by("image")]
FOR_THE_SERVER = [line for line in (INFRA / "mlflow" / "requirements.txt").read_text().splitlines() if line[0] != "#"]
FILES = sorted(path.name for path in INFRA.glob("constraints*.txt"))
COMMON = ["constraints.txt", "constraints-source.txt"]


def pins(*files: str) -> dict[str, str]:
    """The version of each package in requirements files."""
    lines = [line for file in files for line in (INFRA / file).read_text().splitlines()]
    found = [re.fullmatch(r"([a-z0-9-]+)==(\S+) \\", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_each_dependency_is_pinned_to_a_version_that_the_project_allows(variant: str) -> None:
    found = pins(*COMMON, f"constraints-{variant}.txt")
    for requirement in map(Requirement, IN_THE_IMAGE):
        assert requirement.name in found, f"{requirement.name}: run `make constraints`"
        assert requirement.specifier.contains(found[requirement.name]), requirement


def test_each_dependency_of_the_server_is_pinned_to_the_version_of_the_steps() -> None:
    server, steps = pins("constraints-mlflow.txt"), pins(*COMMON)
    for requirement in map(Requirement, FOR_THE_SERVER):
        assert requirement.specifier.contains(server[canonicalize_name(requirement.name)]), requirement
    assert {name: version for name, version in server.items() if steps.get(name, version) != version} == {}


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_pinned_without_a_digest(file: str) -> None:
    head, *entries = re.split(r"^(?=\S)", (INFRA / file).read_text(), flags=re.MULTILINE)[1:]
    assert head.startswith("#")
    assert entries
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", entry), entry


def test_a_build_for_gpus_and_one_for_cpus_differ_in_torch_alone() -> None:
    cpu, cuda = pins("constraints-cpu.txt"), pins("constraints-cuda.txt")
    assert cpu == {name: f"{cuda[name]}+cpu" for name in ("torch", "torchvision")}
    assert not pins(*COMMON).keys() & cuda.keys()
    assert all(re.match("torch|nvidia-|cuda-|triton", name) for name in cuda)


def test_a_wheel_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    """By pip, as the Dockerfile calls it."""
    wheel = tmp_path / "wheels" / "small-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small.py", "")
        archive.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        archive.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("small-1.0.dist-info/RECORD", "")
    locked = tmp_path / "constraints.txt"
    locked.write_text(f"small==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    options = re.search(r'^install="python3 -m pip .* install (.+)"$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert options
    command = [sys.executable, "-m", "pip", "install", *options[1].split(), "--no-index", "--target",
               tmp_path / "installed", "--find-links", wheel.parent, "-r", locked]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)

    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("more.py", "")
    refused = subprocess.run([*command, "--upgrade"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in refused.stderr
