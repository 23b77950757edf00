"""The versions that the image is built with cover the project's dependencies."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IN_THE_IMAGE = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["trainjob"]]
LINES = [line for line in (ROOT / "infra" / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = dict(line.split("==") for line in LINES)


@pytest.mark.parametrize("dependency", IN_THE_IMAGE)
def test_each_dependency_is_pinned_to_a_version_that_the_project_allows(dependency: str) -> None:
    requirement = Requirement(dependency)
    assert requirement.name in PINS, "run `make constraints`"
    assert PINS[requirement.name] in requirement.specifier
