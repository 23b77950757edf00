"""The compiled pipelines, read as a cluster reads them."""

import re
from pathlib import Path

import pytest
import yaml

from headstart.config import Recipe
from headstart_components import IMAGE
from headstart_pipelines.catalog import PIPELINES, compile_pipeline, parameters
from headstart_pipelines.placement import Placement

RECIPES = {
    "pretrain": {"name": "a", "source": {"data": {"uri": "s"}}},
    "finetune": {"name": "a", "source": {"candidates": ["b"]}, "target": {"data": {"uri": "t"}}},
    "transfer": {"name": "a", "source": {"data": {"uri": "s"}}, "target": {"data": {"uri": "t"}}},
}
# Steps that write into MLflow, whose state no cache key knows.
NEVER_CACHED = {"register", "register-2", "evaluate"}


@pytest.fixture(scope="module", params=PIPELINES)
def spec(request, tmp_path_factory) -> dict:
    """A compiled pipeline; `spec["pipelineInfo"]["name"]` says which."""
    file = tmp_path_factory.mktemp("specs") / f"{request.param}.yaml"
    compile_pipeline(request.param, file, Placement())
    return load(file)


def load(file: Path) -> dict:
    """The pipeline of a compiled file, which may hold a second document with settings of a platform."""
    return next(iter(yaml.safe_load_all(file.read_text())))


def executors(spec: dict) -> dict[str, dict]:
    return {name: entry["container"] for name, entry in spec["deploymentSpec"]["executors"].items()}


def dags(spec: dict) -> list[tuple[str, dict]]:
    """The tasks of the pipeline and of each pipeline and loop inside it."""
    inner = [component["dag"] for component in spec["components"].values() if "dag" in component]
    return [task for dag in [spec["root"]["dag"], *inner] for task in dag["tasks"].items()]


def inputs(spec: dict) -> set[str]:
    """The names of all parameters, of the pipeline and of everything inside."""
    names: set[str] = set()
    for part in [spec["root"], *spec["components"].values()]:
        names |= part.get("inputDefinitions", {}).get("parameters", {}).keys()
    return names


def test_the_compiled_pipeline_has_the_steps_of_the_design(spec):
    steps = {
        "pretrain": {"prepare-data", "pretrain", "register"},
        "finetune": {"prepare-data", "select-source", "finetune", "fit-baselines", "evaluate", "register"},
    }
    steps["transfer"] = steps["pretrain"] | steps["finetune"]

    found = {re.sub(r"-\d+$", "", name.removeprefix("exec-")) for name in executors(spec)}

    assert found == steps[spec["pipelineInfo"]["name"]]


def test_every_step_runs_in_the_projects_image(spec):
    assert {container["image"] for container in executors(spec).values()} == {IMAGE}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_image_option_replaces_the_image_of_every_step(name, tmp_path, cli):
    answer = cli("compile", name, "-o", tmp_path / "spec.yaml", "--image", "registry.example/headstart@sha256:0")

    assert answer.code == 0
    images = {container["image"] for container in executors(load(tmp_path / "spec.yaml")).values()}
    assert images == {"registry.example/headstart@sha256:0"}


def test_no_step_installs_anything(spec):
    for name, container in executors(spec).items():
        script = " ".join(container["command"] + container["args"])
        assert not re.search(r"\b(pip3?|ensurepip|uv|conda|apt|apt-get)\b", script), name


def test_no_input_is_a_credential(spec):
    for name in inputs(spec):
        assert not re.search("key|secret|token|password|credential|login", name, re.IGNORECASE), name


def test_no_step_carries_a_credential_in_its_environment(spec):
    for name, container in executors(spec).items():
        assert "env" not in container, name


def test_nothing_that_differs_from_run_to_run_is_an_input(spec):
    for name in inputs(spec):
        assert not {"run", "id", "uuid", "time", "date", "now"} & set(re.split(r"[_-]", name)), name


def test_no_task_is_given_an_id_or_a_time_by_kubeflow(spec):
    assert not re.search(r"\{\{\$\.(pipeline_|workflow)", yaml.safe_dump(spec))


def test_all_steps_may_be_reused_except_those_that_write_into_mlflows_registry_or_judge(spec):
    leaves = {
        name: task for name, task in dags(spec) if "executorLabel" in spec["components"][task["componentRef"]["name"]]
    }

    cached = {name for name, task in leaves.items() if task["cachingOptions"].get("enableCache")}

    assert cached
    assert leaves.keys() - cached == NEVER_CACHED & leaves.keys()


def test_every_step_has_a_readable_name(spec):
    names = [task["taskInfo"]["name"] for _, task in dags(spec)]

    assert not [name for name in names if re.fullmatch(r".*-\d+", name) and not name.startswith("for-loop")]


def test_the_pipelines_parameters_are_the_recipes_sections(spec):
    name = spec["pipelineInfo"]["name"]
    given = parameters(Recipe.of(RECIPES[name]))
    taken = spec["root"]["inputDefinitions"]["parameters"]

    assert given.keys() <= taken.keys()
    # A candidate from another pipeline is the one input that no recipe gives.
    assert {key for key, value in taken.items() if not value.get("isOptional")} <= given.keys()
    assert taken.keys() - given.keys() <= {"pretrained"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_parameter_holds_its_section_of_the_recipe_unchanged(name):
    recipe = Recipe.of(RECIPES[name])
    sections = recipe.model_dump(mode="json", exclude_none=True)

    for key, value in parameters(recipe).items():
        section, _, leaf = key.partition("_")
        assert value == (sections[section][leaf] if leaf else sections[key])


def test_the_strategies_of_a_recipe_are_a_loop_that_may_run_at_once(spec):
    loops = [task for _, task in dags(spec) if "parameterIterator" in task]

    if spec["pipelineInfo"]["name"] == "pretrain":
        assert not loops
    else:
        (loop,) = loops
        assert "iteratorPolicy" not in loop, "a cluster has room for all of them"


def test_compiling_twice_gives_the_same_file(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        compile_pipeline("transfer", tmp_path / name, Placement())

    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
