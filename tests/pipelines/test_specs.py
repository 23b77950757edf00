"""The compiled pipelines, read as a cluster reads them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from headstart.recipe.recipe import Recipe
from headstart_components import IMAGE
from headstart_pipelines.catalog import PIPELINES, compile_pipeline, parameters
from headstart_pipelines.placement import Placement

RECIPES = {
    "pretrain": {"name": "a", "source": {"data": {"uri": "s"}}},
    "finetune": {"name": "a", "source": {"candidates": ["b"]}, "target": {"data": {"uri": "t"}}},
    "transfer": {"name": "a", "source": {"data": {"uri": "s"}}, "target": {"data": {"uri": "t"}}},
}
# Steps that write into MLflow, whose state no cache key knows, or read what is there at the moment.
NEVER_CACHED = {"register", "register-2", "evaluate", "close-record", "monitor", "alarm", "survey", "trial"}


@pytest.fixture(scope="module", params=PIPELINES)
def spec(request, tmp_path_factory) -> dict:
    """A compiled pipeline; `spec["pipelineInfo"]["name"]` says which."""
    return compiled(request.param, tmp_path_factory.mktemp("specs"))


@pytest.fixture(scope="module", params=RECIPES)
def of_recipe(request, tmp_path_factory) -> dict:
    """A compiled pipeline that does the work of a recipe."""
    return compiled(request.param, tmp_path_factory.mktemp("specs"))


def compiled(name: str, folder: Path) -> dict:
    compile_pipeline(name, folder / f"{name}.yaml", Placement())
    return load(folder / f"{name}.yaml")


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
        "pretrain": {"prepare-data", "pretrain", "register", "close-record"},
        "finetune": {
            "prepare-data",
            "select-source",
            "finetune",
            "fit-baselines",
            "evaluate",
            "register",
            "close-record",
        },
    }
    steps["transfer"] = steps["pretrain"] | steps["finetune"]
    steps["monitor"] = {"monitor", "alarm"}
    steps["survey"] = {"prepare-data", "survey", "close-record"}
    steps["trial"] = {"trial"}

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

    assert bool(cached) is (spec["pipelineInfo"]["name"] not in ("monitor", "trial"))
    assert leaves.keys() - cached == NEVER_CACHED & leaves.keys()


def test_every_step_has_a_readable_name(spec):
    names = [task["taskInfo"]["name"] for _, task in dags(spec)]

    assert not [name for name in names if re.fullmatch(r".*-\d+", name) and not name.startswith("for-loop")]


def test_the_pipelines_parameters_are_the_recipes_sections(of_recipe):
    name = of_recipe["pipelineInfo"]["name"]
    given = parameters(Recipe.of(RECIPES[name]))
    taken = of_recipe["root"]["inputDefinitions"]["parameters"]

    assert given.keys() == taken.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_parameter_holds_its_section_of_the_recipe_without_what_goes_without_saying(name):
    sections = {**RECIPES[name], "seed": 3, "training": {"epochs": 4}, "evaluation": {"metric": "macro_f1"}}
    recipe = Recipe.of({key: value for key, value in sections.items() if key in ("name", "seed") or name != "pretrain"
                        or key == "source"})  # fmt: skip
    given = parameters(recipe)

    assert Recipe.of_sections(given) == recipe
    if name != "pretrain":
        assert (given["training"], given["evaluation"]) == ({"epochs": 4}, {"metric": "macro_f1"})
        assert given["target_data"] == {"uri": "t"}
    if name != "finetune":
        assert (given["source_data"], given["source_pretraining"]) == ({"uri": "s"}, {})


def test_a_pipeline_is_one_graph_and_its_loop_inside_of_one_exit_handler(of_recipe):
    spec = of_recipe
    graphs = {name: component["dag"]["tasks"] for name, component in spec["components"].items() if "dag" in component}
    loops = {name for name in graphs if name.startswith("comp-for-loop-")}

    assert graphs.keys() - loops == {"comp-exit-handler-1"}
    assert len(loops) == (spec["pipelineInfo"]["name"] != "pretrain")
    assert spec["root"]["dag"]["tasks"].keys() == {"exit-handler-1", "close-record"}


def test_the_record_is_closed_whatever_became_of_the_steps_and_learns_it(of_recipe):
    closing = of_recipe["root"]["dag"]["tasks"]["close-record"]

    assert closing["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert closing["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}


def test_both_data_sets_are_prepared_at_once_and_registering_a_source_holds_up_nothing_but_the_judgement(tmp_path):
    compile_pipeline("transfer", tmp_path / "transfer.yaml", Placement())
    tasks = load(tmp_path / "transfer.yaml")["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    names = {key: task["taskInfo"]["name"] for key, task in tasks.items()}
    waits = {names[key]: {names[each] for each in task.get("dependentTasks", ())} for key, task in tasks.items()}

    assert waits["prepare source"] == waits["prepare target"] == set()
    assert {name for name, others in waits.items() if "register source" in others} == {"evaluate", "register target"}
    assert waits["select source"] == {"prepare target", "pretrain"}


def test_the_source_of_a_step_is_one_import_of_what_the_image_has(spec):
    for name, container in executors(spec).items():
        source, function = container["command"][-1], container["args"][-1]
        assert re.fullmatch(rf"from headstart_components\.\w+\.component import {function}\n", source), name


def test_a_pod_gets_the_function_itself_and_loads_no_compiler(tmp_path):
    """KFP runs the source with this variable, beneath which kfp.dsl is the part that a step needs."""
    compile_pipeline("transfer", tmp_path / "transfer.yaml", Placement())
    sources = {each["command"][-1]: each["args"][-1] for each in executors(load(tmp_path / "transfer.yaml")).values()}
    program = "import inspect, sys\n" + "".join(
        f"{source}assert inspect.isfunction({function})\n" for source, function in sources.items()
    )
    program += "print(sorted(sys.modules.keys() & {'kfp.compiler', 'mlflow', 'torch', 'headstart_pipelines'}))"

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "_KFP_RUNTIME": "true"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_description_travels_with_a_step(spec):
    for name, component in spec["components"].items():
        assert "description" not in yaml.safe_dump(component), name


@pytest.mark.parametrize("kind", ["parameters", "artifacts"])
def test_what_every_task_and_loop_is_given_has_the_type_that_it_takes(spec, kind):
    """The backend's drivers refuse a list where a string is wanted, and an item that is text where it is a mapping."""
    given = list(passed(spec, kind))

    assert given or (kind, spec["pipelineInfo"]["name"]) in (("artifacts", "monitor"), ("artifacts", "trial"))
    assert [each for each in given if each[1] != each[2]] == []


def passed(spec: dict, kind: str) -> Iterator[tuple[str, str, str]]:
    """For each input of each task: its name, the type of what it is given, and the type that it takes."""
    # A loop's item is what the list holds: no list of ours holds anything but mappings.
    for graph in [spec["root"], *(each for each in spec["components"].values() if "dag" in each)]:
        inner = graph["dag"]["tasks"]
        for key, task in inner.items():
            takes = spec["components"][task["componentRef"]["name"]].get("inputDefinitions", {}).get(kind, {})
            if kind == "parameters" and "parameterIterator" in task:
                item, items = (task["parameterIterator"][each] for each in ("itemInput", "items"))
                yield f"{key}: {items['inputParameter']}", type_of(takes[items["inputParameter"]]), "LIST"
                yield f"{key}: {item}", "STRUCT", type_of(takes[item])
            for name, value in task.get("inputs", {}).get(kind, {}).items():
                yield f"{key}: {name}", type_given(value, graph, inner, spec), type_of(takes[name])
            missing = takes.keys() - task.get("inputs", {}).get(kind, {}).keys()
            item = task.get("parameterIterator", {}).get("itemInput")
            for name in missing - {item}:
                assert takes[name].get("isOptional"), f"{key}: {name} is not given"


def type_given(value: dict, graph: dict, tasks: dict, spec: dict) -> str:
    """The type of what a task is given for an input."""
    (source,) = value.values()
    match value:
        case {"runtimeValue": _}:
            return {str: "STRING", bool: "BOOLEAN", dict: "STRUCT", list: "LIST"}[type(source["constant"])]
        case {"componentInputParameter": name}:
            return type_of(graph["inputDefinitions"]["parameters"][name])
        case {"componentInputArtifact": name}:
            return type_of(graph["inputDefinitions"]["artifacts"][name])
        case {"taskFinalStatus": _}:
            return "TASK_FINAL_STATUS"
    kind = "parameters" if "outputParameterKey" in source else "artifacts"
    made = spec["components"][tasks[source["producerTask"]]["componentRef"]["name"]]["outputDefinitions"][kind]
    return type_of(made[source.get("outputParameterKey") or source["outputArtifactKey"]])


def type_of(definition: dict) -> str:
    """The type of a parameter or of an artifact, a list of artifacts apart."""
    if "parameterType" in definition:
        return definition["parameterType"]
    return definition["artifactType"]["schemaTitle"] + " list" * definition.get("isArtifactList", False)


def test_the_strategies_of_a_recipe_are_a_loop_that_may_run_at_once(of_recipe):
    loops = [task for _, task in dags(of_recipe) if "parameterIterator" in task]

    if of_recipe["pipelineInfo"]["name"] == "pretrain":
        assert not loops
    else:
        (loop,) = loops
        assert "iteratorPolicy" not in loop, "a cluster has room for all of them"


def test_compiling_twice_gives_the_same_file(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        compile_pipeline("transfer", tmp_path / name, Placement())

    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
