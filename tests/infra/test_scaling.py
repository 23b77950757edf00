"""What infra/SCALING.md says of a run's pods and traffic is what the compiled pipeline says."""

import re
from typing import Any

import pytest
import yaml

from headstart_pipelines.catalog import compile_pipeline
from headstart_pipelines.placement import Placement
from tests.infra.manifests import INFRA


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("package") / "transfer.yaml"
    compile_pipeline("transfer", path, Placement())
    return next(yaml.safe_load_all(path.read_text()))


def pods(package: dict[str, Any], strategies: int) -> int:
    """Pods that Kubeflow Pipelines 2.17 starts where nothing is cached.

    A driver for the run, one for the exit handler and one for a loop with one more for each of its turns; a driver and
    an executor for each step.
    """

    def of(component: dict[str, Any]) -> int:
        if "dag" not in component:
            return 2
        inner = sum(task(entry) for entry in component["dag"]["tasks"].values())
        return 1 + inner

    def task(entry: dict[str, Any]) -> int:
        inner = of(package["components"][entry["componentRef"]["name"]])
        return 1 + strategies * inner if "parameterIterator" in entry else inner

    return 1 + sum(task(entry) for entry in package["root"]["dag"]["tasks"].values())


def readers(package: dict[str, Any], role: str) -> int:
    """Steps, a loop's as one, that read the data set of the one that prepares it."""
    dag = package["components"]["comp-exit-handler-1"]["dag"]
    (producer,) = (name for name, entry in dag["tasks"].items() if entry["taskInfo"]["name"] == f"prepare {role}")
    sources = [
        entry.get("inputs", {}).get("artifacts", {}).values()
        for name, entry in dag["tasks"].items()
        if name != producer
    ]
    return sum(
        any(
            artifact.get("taskOutputArtifact", {}) == {"producerTask": producer, "outputArtifactKey": "dataset"}
            for artifact in artifacts
        )
        for artifacts in sources
    )


def said(pattern: str) -> tuple[int, ...]:
    found = re.search(pattern, (INFRA / "SCALING.md").read_text())
    assert found, pattern
    return tuple(map(int, found.groups()))


def test_the_number_of_pods_is_that_of_the_compiled_pipeline(package):
    fixed, each = said(r"\*\*(\d+) \+ (\d+) S\*\* pods")
    assert [pods(package, strategies) for strategies in (1, 4, 50)] == [fixed + each * s for s in (1, 4, 50)]


def test_the_number_of_downloads_of_a_data_set_is_that_of_the_compiled_pipeline(package):
    (fixed,) = said(r"downloads \*\*(\d+) \+ S\*\* times the target's store")
    # The loop over the strategies counts as one reader.
    assert readers(package, "target") == fixed + 1
    assert readers(package, "source") == 1
