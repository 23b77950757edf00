"""The size of a run's workflow is known before the run: the arithmetic against recorded workflows."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart.recipe.recipe import load_recipe
from headstart_pipelines.catalog import compile_pipeline, parameters
from headstart_pipelines.cluster.size import LIMIT, warning, workflow_bytes
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import Parts, load_profile
from tests.pipelines.cluster.conftest import IMAGE, ROOT

# Packages that were run on Kubeflow Pipelines 2.17.0, and for each run its parameters, whether Argo gave every node one
# for its retries, and the bytes of its workflow's JSON at the end.
WORKFLOWS = Path(__file__).parent / "workflows"
RECORDED: dict[str, dict[str, Any]] = json.loads((WORKFLOWS / "recorded.json").read_text())
# What gives a step the least, and the most.
PRETRAINING = {"name", "modality", "seed", "source_data", "source_pretraining"}
PROFILES = [ROOT / "infra" / "profiles" / name for name in ("cpu.yaml", "multi-node.yaml")]


@pytest.mark.parametrize("run", RECORDED)
def test_the_sum_is_within_a_twentieth_of_what_a_real_workflow_had(run):
    recorded = RECORDED[run]
    package = (WORKFLOWS / f"{recorded['package']}.yaml").read_text()
    # The same package was run under a tag and by a digest.
    package = package.replace("registry.example/headstart:0.1.0", recorded["image"])

    found = workflow_bytes(package, recorded["parameters"], retry_nodes=recorded["retry_nodes"])

    assert found == pytest.approx(recorded["bytes"], rel=0.05)


@pytest.fixture(scope="module", params=PROFILES, ids=lambda path: path.stem)
def package(request, tmp_path_factory) -> str:
    """The package of the recipe that ships."""
    path = tmp_path_factory.mktemp("package") / "transfer.yaml"
    compile_pipeline("transfer", path, Placement(image=IMAGE, profile=load_profile(request.param)))
    return path.read_text()


def with_strategies(count: int) -> dict[str, Any]:
    """The parameters of the recipe that ships, on data in S3, with so many strategies."""
    recipe = load_recipe(ROOT / "pipelines" / "recipes" / "digits.yaml", [])
    given = parameters(recipe)
    for role in ("source", "target"):
        resolved = {"uri": f"s3://headstart-state/data/{role}", "fingerprint": "etag:" + "0" * 64, "size": 32}
        given[f"{role}_data"] |= resolved
    given["strategies"] = [given["strategies"][number % len(given["strategies"])] for number in range(count)]
    return given


def test_a_step_takes_half_of_the_bytes_that_it_took_when_a_package_held_the_steps_sources(package):
    steps = next(yaml.safe_load_all(package))["deploymentSpec"]["executors"]

    # transfer for the profile cpu had 98,429 bytes for 9 steps.
    assert len(package) / len(steps) < 98_429 / 9 / 2


def test_digits_with_four_strategies_stays_below_what_argo_compresses_where_every_node_has_one_for_retries(package):
    assert workflow_bytes(package, with_strategies(4), retry_nodes=True) < LIMIT


def test_digits_with_eight_strategies_stays_below_it_where_only_steps_have_retries(package):
    assert workflow_bytes(package, with_strategies(8), retry_nodes=False) < LIMIT


def test_each_strategy_adds_the_same(package):
    sizes = [workflow_bytes(package, with_strategies(count), retry_nodes=True) for count in (4, 8, 12)]

    assert sizes[1] - sizes[0] == pytest.approx(sizes[2] - sizes[1], rel=0.02)


def test_nothing_is_said_of_a_run_that_loses_nothing(package):
    assert warning(package, with_strategies(4)) is None


def test_a_run_that_would_grow_too_large_is_told_what_is_lost_what_is_not_and_what_helps(package):
    on_some, everywhere = warning(package, with_strategies(8)), warning(package, with_strategies(16))

    assert "unless Argo is configured without templateDefaults" in on_some
    assert "unless" not in everywhere
    for said in (on_some, everywhere):
        assert "neither the states of its steps nor their logs" in said
        assert "`headstart runs` and `headstart logs` do" in said
        assert "Fewer strategies" in said


def test_each_part_of_a_data_set_takes_as_much_of_a_workflow_as_is_written(tmp_path):
    """As infra/SCALING.md says: eight fit into the pipeline of the source alone where Argo keeps retry nodes."""
    given = {key: value for key, value in with_strategies(4).items() if key in PRETRAINING}

    def size(parts: int) -> int:
        profile = load_profile(PROFILES[0]).model_copy(update={"preparation_parts": Parts(source=parts)})
        compile_pipeline("pretrain", tmp_path / "p.yaml", Placement(image=IMAGE, profile=profile))
        return workflow_bytes((tmp_path / "p.yaml").read_text(), given, retry_nodes=True)

    assert (size(16) - size(8)) / 8 == pytest.approx(50_000, rel=0.05)
    assert size(8) < LIMIT
