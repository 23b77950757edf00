"""The packages that come with headstart are what its pipelines compile to."""

import os

import pytest
import yaml

from headstart_pipelines.catalog import PIPELINES, compile_pipeline
from headstart_pipelines.packages import PACKAGES
from headstart_pipelines.placement import Placement


@pytest.mark.parametrize("name", PIPELINES)
def test_a_package_is_what_its_pipeline_compiles_to(name, tmp_path):
    kept, made = PACKAGES / f"{name}.yaml", tmp_path / "made.yaml"
    compile_pipeline(name, made, Placement())
    if os.environ.get("GOLDEN") == "write":
        kept.write_text(made.read_text())

    specs = [yaml.safe_load(file.read_text()) for file in (kept, made)]
    for spec in specs:
        # Which release compiled it changes nothing.
        del spec["sdkVersion"]
    assert specs[0] == specs[1], (
        f"The pipeline {name} or a component has changed. GOLDEN=write pytest tests/pipelines/test_packages.py "
        "writes its package anew."
    )
