"""What the profiles that ship make of each step, in the compiled file that a cluster reads.

tests/pipelines/golden/ holds what each step gets, as the compiled files say it. Where a change is meant, write those
anew, and read the difference before it is committed:

    GOLDEN=write .venv/bin/pytest tests/pipelines/test_placement.py
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart.errors import InputError
from headstart.jobs import launch, trainjob
from headstart.storage.local import write_text
from headstart.tracking.runs import KFP_RUN_VARIABLE
from headstart.version import CODE_VARIABLE
from headstart_components import IMAGE
from headstart_pipelines.catalog import PIPELINES, compile_pipeline
from headstart_pipelines.documents import read_documents
from headstart_pipelines.placement import LIGHT_STEPS, SELECTION_STEPS, TRAINING_STEPS, Placement
from headstart_pipelines.profile import Profile, load_profile, seconds

ROOT = Path(__file__).parent.parent.parent
PROFILES = {path.stem: path for path in sorted((ROOT / "infra" / "profiles").glob("*.yaml"))}
GOLDEN = Path(__file__).parent / "golden"
DIGEST = f"sha256:{'0a' * 32}"
NAMED = f"registry.example/headstart@{DIGEST}"

Compiled = tuple[dict[str, Any], dict[str, Any]]

MINIMAL = {
    "training": {
        "cpu": {"request": 1, "limit": 2},
        "memory": {"request": "1Gi", "limit": "2Gi"},
        "temporary": "1Gi",
        "timeout": "1h",
    },
    "light": {
        "cpu": {"request": 1, "limit": 2},
        "memory": {"request": "1Gi", "limit": "2Gi"},
        "temporary": "1Gi",
        "timeout": "1h",
    },
}


def read(file: Path) -> Compiled:
    """The pipeline of a compiled file, and what the platform gives its executors."""
    package, *platforms = read_documents(file.read_text())
    given = platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}
    return package, given


@pytest.fixture(scope="session")
def compiled(once: Callable[..., Path]) -> Callable[[str], Compiled]:
    """`compiled(profile)`: the pipeline transfer, placed by a profile that ships; each is compiled once a session."""

    def make(folder: Path) -> None:
        for name, path in PROFILES.items():
            placement = Placement(image=NAMED, profile=load_profile(path))
            compile_pipeline("transfer", folder / f"{name}.yaml", placement)
            (folder / f"{name}.json").write_text(json.dumps(read(folder / f"{name}.yaml")))

    return lambda name: tuple(json.loads((once("placed", make) / f"{name}.json").read_text()))


def compile_with(folder: Path, pipeline: str = "finetune", **options: Any) -> Compiled:
    """A pipeline placed with these options."""
    options = {"image": NAMED, **options}
    compile_pipeline(pipeline, folder / "compiled.yaml", Placement(**options))
    return read(folder / "compiled.yaml")


def profile(changes: dict[str, Any] | None = None, **training: Any) -> Profile:
    """A small profile with further keys, those of training steps by name."""
    return Profile.of({**MINIMAL, "training": {**MINIMAL["training"], **training}, **(changes or {})})


def tasks(package: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each executor's task."""
    components = package["components"]
    inner = [component["dag"] for component in components.values() if "dag" in component]
    found = {}
    for dag in [package["root"]["dag"], *inner]:
        for task in dag["tasks"].values():
            label = components[task["componentRef"]["name"]].get("executorLabel")
            if label:
                found[label] = task
    return found


def component(label: str) -> str:
    return re.sub(r"-\d+$", "", label.removeprefix("exec-"))


def settings(package: dict[str, Any], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each executor gets, without its code and what the compiler writes twice for older backends."""
    found = {}
    for label, executor in package["deploymentSpec"]["executors"].items():
        container = executor["container"]
        platform = {
            key: [{k: v for k, v in each.items() if not k.endswith("NameParameter")} for each in value]
            if key in ("configMapAsEnv", "secretAsEnv", "imagePullSecret", "pvcMount")
            else value
            for key, value in given[label].items()
        }
        resources = {k: v for k, v in container["resources"].items() if k == "accelerator" or k.startswith("resource")}
        accelerator = resources.pop("accelerator", {})
        resources |= {k: v for k, v in accelerator.items() if k.startswith("resource")}
        found[label] = {
            "image": container["image"],
            "env": {each["name"]: each["value"] for each in container["env"]},
            "resources": resources,
            "retryPolicy": tasks(package)[label]["retryPolicy"],
            "platform": platform,
        }
    return found


def table(package: dict[str, Any], given: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings, each once, with the steps that have them."""
    groups: list[dict[str, Any]] = []
    for label, values in settings(package, given).items():
        name = tasks(package)[label]["taskInfo"]["name"]
        same = next((group for group in groups if {**group, "steps": None} == {"steps": None, **values}), None)
        if same:
            same["steps"].append(name)
        else:
            groups.append({"steps": [name], **values})
    return groups


each = pytest.mark.parametrize("name", PROFILES)


def test_there_is_a_profile_for_each_way_to_train():
    assert list(PROFILES) == ["cpu", "multi-gpu", "multi-node-cpu", "multi-node", "single-gpu"]


@each
def test_a_profile_gives_each_step_what_its_golden_file_says(name, compiled):
    golden = GOLDEN / f"{name}.yaml"
    found = table(*compiled(name))
    if os.environ.get("GOLDEN") == "write":
        write_text(golden, yaml.safe_dump(found, sort_keys=False, width=120))

    assert yaml.safe_load(golden.read_text()) == found, (
        f"infra/profiles/{name}.yaml or what is made of it has changed. If it was meant to: GOLDEN=write "
        ".venv/bin/pytest tests/pipelines/test_placement.py, and read what git diff shows."
    )


@each
def test_every_step_gets_the_settings_of_its_component_and_of_no_other(name, compiled):
    package, given = compiled(name)
    found = settings(package, given)
    kinds = [TRAINING_STEPS, SELECTION_STEPS, LIGHT_STEPS]

    assert found.keys() == given.keys()
    for kind in kinds:
        same = [values for label, values in found.items() if component(label) in kind]
        assert same
        assert all(values == same[0] for values in same)


def test_every_component_is_of_one_kind():
    folders = {path.parent.name.replace("_", "-") for path in (ROOT / "components").glob("*/component.py")}

    assert folders == TRAINING_STEPS | SELECTION_STEPS | LIGHT_STEPS
    assert len(folders) == len(TRAINING_STEPS) + len(SELECTION_STEPS) + len(LIGHT_STEPS)


@each
def test_only_steps_that_run_networks_hold_an_accelerator(name, compiled):
    package, _ = compiled(name)
    there = {component(label) for label in package["deploymentSpec"]["executors"]}
    holding = {
        component(label)
        for label, executor in package["deploymentSpec"]["executors"].items()
        if "accelerator" in executor["container"]["resources"]
    }

    assert (
        holding
        == {
            "cpu": set(),
            "single-gpu": there & (TRAINING_STEPS | SELECTION_STEPS),
            "multi-gpu": there & (TRAINING_STEPS | SELECTION_STEPS),
            # The nodes of the TrainJob have them.
            "multi-node": there & SELECTION_STEPS,
            "multi-node-cpu": set(),
        }[name]
    )


@each
def test_a_step_that_holds_an_accelerator_waits_in_the_queue_and_goes_where_one_is(name, compiled):
    package, given = compiled(name)

    for label, executor in package["deploymentSpec"]["executors"].items():
        holds = "accelerator" in executor["container"]["resources"]
        queued = "kueue.x-k8s.io/queue-name" in given[label]["podMetadata"]["labels"]
        # Without GPUs cores are what is queued for; the TrainJob's are its nodes'.
        working = {"cpu": TRAINING_STEPS | SELECTION_STEPS, "multi-node-cpu": SELECTION_STEPS}.get(name, ())
        assert queued == (holds or component(label) in working), label
        assert ("nodeSelector" in given[label]) == ("tolerations" in given[label]) == holds, label


@each
def test_a_step_may_write_to_its_tmp_and_has_shared_memory_where_networks_run(name, compiled):
    _, given = compiled(name)

    for label, values in given.items():
        mounted = {mount["mountPath"]: mount.get("medium") for mount in values["emptyDirMounts"]}
        shared = {} if component(label) in LIGHT_STEPS else {"/dev/shm": "Memory"}  # noqa: S108
        assert mounted == {"/tmp": None, **shared}, label  # noqa: S108


@each
def test_a_step_knows_its_pipeline_run_by_the_label_that_kfp_gives_its_pod(name, compiled):
    _, given = compiled(name)

    for values in given.values():
        assert values["fieldPathAsEnv"] == [
            {"name": KFP_RUN_VARIABLE, "fieldPath": "metadata.labels['pipeline/runid']"}
        ]


@each
def test_a_retry_is_not_cut_off_by_the_time_that_argo_gives_all_attempts_together(name, compiled):
    """Argo counts backoffMaxDuration from the first start of a step; KFP's default is one hour."""
    package, given = compiled(name)

    for label, task in tasks(package).items():
        policy = task["retryPolicy"]
        attempts = policy["maxRetryCount"] + 1
        assert policy["maxRetryCount"] > 0
        assert seconds(policy["backoffMaxDuration"]) > attempts * int(given[label]["activeDeadlineSeconds"])
        # Argo reads a whole number.
        assert float(policy["backoffFactor"]).is_integer()


@each
def test_no_step_gets_a_variable_twice(name, compiled):
    package, given = compiled(name)

    for label, executor in package["deploymentSpec"]["executors"].items():
        variables = [variable["name"] for variable in executor["container"]["env"]]
        variables += [variable["name"] for variable in given[label]["fieldPathAsEnv"]]
        for kind in ("secretAsEnv", "configMapAsEnv"):
            variables += [key["envVar"] for reference in given[label].get(kind, []) for key in reference["keyToEnv"]]
        assert len(set(variables)) == len(variables)


@pytest.mark.parametrize(
    ("name", "processes", "device", "memory"),
    [("multi-node", "8", "gpu", "64Gi"), ("multi-node-cpu", "1", "cpu", "3Gi")],
)
def test_the_nodes_of_a_training_job_are_told_their_number_their_size_their_image_and_their_runtime(
    name, processes, device, memory, compiled
):
    variables = {label: values["env"] for label, values in settings(*compiled(name)).items()}

    told = {
        launch.NODES_VARIABLE: "2",
        launch.PROCESSES_VARIABLE: processes,
        trainjob.DEVICE_VARIABLE: device,
        trainjob.MEMORY_VARIABLE: memory,
        trainjob.RUNTIME_VARIABLE: "headstart",
        trainjob.IMAGE_VARIABLE: NAMED,
    }
    runtime = yaml.safe_load((ROOT / "infra" / "trainjob" / "runtime.yaml").read_text())
    assert runtime["metadata"]["name"] == told[trainjob.RUNTIME_VARIABLE]
    for label, values in variables.items():
        given = {key: value for key, value in values.items() if key in told}
        assert given == (told if component(label) in TRAINING_STEPS else {})


@each
def test_the_digest_of_the_image_is_the_code_that_a_step_runs(name, compiled):
    for values in settings(*compiled(name)).values():
        assert values["image"] == NAMED
        assert values["env"][CODE_VARIABLE] == DIGEST


def test_an_image_without_a_digest_says_nothing_of_the_code(tmp_path):
    package, _ = compile_with(tmp_path, image="headstart:latest")

    for executor in package["deploymentSpec"]["executors"].values():
        assert "env" not in executor["container"]


def test_the_image_of_the_command_line_wins_over_the_profiles(tmp_path):
    own = f"registry.example/own@{DIGEST}"

    for image, expected in ((None, own), (NAMED, NAMED)):
        package, _ = compile_with(tmp_path, image=image, profile=profile({"image": own}))
        images = {executor["container"]["image"] for executor in package["deploymentSpec"]["executors"].values()}
        assert images == {expected}


@pytest.mark.parametrize("expected", [None, 3])
def test_as_many_strategies_run_at_once_as_the_profile_says(tmp_path, expected):
    package, _ = compile_with(tmp_path, profile=profile({"parallelism": expected}))
    graph = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (loop,) = [task for task in graph.values() if "parameterIterator" in task]

    assert loop.get("iteratorPolicy", {}).get("parallelismLimit") == expected


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize(("parts", "at_once"), [(8, 8), (64, 16)])
def test_as_many_steps_read_a_data_set_as_the_profile_says_and_sixteen_at_once(tmp_path, role, parts, at_once):
    package, _ = compile_with(tmp_path, "transfer", profile=profile({"preparation_parts": {role: parts}}))
    graph = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    named = {task["taskInfo"]["name"]: task for task in graph.values()}

    assert [name for name in named if name.startswith("parts of")] == [f"parts of {role}"]
    loop = named[f"parts of {role}"]
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == list(range(parts))
    assert loop["iteratorPolicy"]["parallelismLimit"] == at_once
    joining = {name: "parts" in task["inputs"]["parameters"] for name, task in named.items() if "prepare" in name}
    assert joining == {f"prepare {each}": each == role for each in ("source", "target")}


@pytest.mark.parametrize("role", ["source", "target"])
def test_data_whose_content_is_unknown_is_always_prepared_anew(tmp_path, role):
    package, _ = compile_with(tmp_path, "transfer", unfingerprinted=frozenset({role}))
    cached = {task["taskInfo"]["name"]: task["cachingOptions"].get("enableCache") for task in tasks(package).values()}

    preparations = {name: reused for name, reused in cached.items() if name.startswith("prepare")}
    assert preparations == {"prepare source": None, "prepare target": None} | {
        f"prepare {other}": True for other in {"source", "target"} - {role}
    }
    assert cached["finetune"]


@pytest.mark.parametrize(("image", "reused"), [("headstart:1.2", set()), (NAMED, {"prepare target", "finetune"})])
def test_on_a_cluster_nothing_is_reused_of_an_image_whose_name_may_mean_another_one_tomorrow(tmp_path, image, reused):
    placement = Placement(image=image, profile=profile())
    compile_pipeline("finetune", tmp_path / "compiled.yaml", placement, allow_tag=True)
    package, _ = read(tmp_path / "compiled.yaml")
    found = {t["taskInfo"]["name"] for t in tasks(package).values() if t["cachingOptions"].get("enableCache")}

    assert found >= reused
    assert bool(found) == bool(reused)


def test_choosing_a_source_gets_what_training_gets_unless_it_has_a_section_of_its_own(tmp_path):
    for own, expected in ((None, "2"), ({**MINIMAL["light"], "cpu": {"request": 3, "limit": 3}}, "3")):
        package, _ = compile_with(tmp_path, profile=profile({"selection": own}))
        resources = package["deploymentSpec"]["executors"]["exec-select-source"]["container"]["resources"]
        assert resources["resourceCpuLimit"] == expected


def test_a_claim_is_mounted_where_the_profile_says(tmp_path):
    volumes = [{"claim": "headstart-data", "path": "/data", "subpath": "scans"}, {"claim": "state", "path": "/state"}]
    _, given = compile_with(tmp_path, profile=profile(volumes=volumes))

    mounts = [
        (mount["constant"], mount["mountPath"], mount.get("subPath")) for mount in given["exec-finetune"]["pvcMount"]
    ]
    assert mounts == [("headstart-data", "/data", "scans"), ("state", "/state", None)]
    assert "pvcMount" not in given["exec-evaluate"]


def test_a_key_of_a_secret_may_fill_a_variable_of_another_name(tmp_path):
    secrets = [{"name": "store", "keys": {"user": "AWS_ACCESS_KEY_ID"}}]
    _, given = compile_with(tmp_path, profile=profile({"environment": {"secrets": secrets}}))

    (secret,) = given["exec-register"]["secretAsEnv"]
    assert secret["keyToEnv"] == [{"secretKey": "user", "envVar": "AWS_ACCESS_KEY_ID"}]


def test_a_step_without_retries_is_tried_once(tmp_path):
    package, _ = compile_with(tmp_path, profile=profile(retries={"count": 0}))

    assert "retryPolicy" not in tasks(package)["exec-finetune"]


@pytest.mark.parametrize("kind", ["values", "config_maps"])
def test_a_variable_of_headstarts_own_in_the_profile_is_refused(tmp_path, kind):
    given = {
        "values": {CODE_VARIABLE: "1"},
        "config_maps": [{"name": "a", "keys": [CODE_VARIABLE]}],
    }

    with pytest.raises(InputError, match=f"environment: {CODE_VARIABLE} is set by headstart itself"):
        compile_with(tmp_path, profile=profile({"environment": {kind: given[kind]}}))


def test_an_unsafe_profile_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match=r"set training\.shared_memory"):
        compile_with(tmp_path, profile=profile(accelerator={"type": "nvidia.com/gpu"}))

    assert not list(tmp_path.iterdir())


def test_without_an_image_a_profile_refuses_the_default_one_which_has_no_digest(tmp_path):
    with pytest.raises(InputError, match=f"the image {IMAGE} is named without a digest"):
        compile_with(tmp_path, image=None, profile=profile())

    compile_pipeline("finetune", tmp_path / "compiled.yaml", Placement(profile=profile()), allow_tag=True)
    assert (tmp_path / "compiled.yaml").exists()


@pytest.mark.parametrize("name", PIPELINES)
def test_without_a_profile_a_pipeline_has_no_settings_of_a_platform(name, tmp_path):
    compile_pipeline(name, tmp_path / "compiled.yaml", Placement())

    assert len(list(yaml.safe_load_all((tmp_path / "compiled.yaml").read_text()))) == 1


def test_openmp_keeps_within_the_cores_of_a_step_unless_the_profile_says_otherwise(tmp_path):
    profile = {**MINIMAL, "light": {**MINIMAL["light"], "cpu": {"request": "250m", "limit": "500m"}}}
    own = {**profile, "environment": {"values": {"OMP_NUM_THREADS": "3"}}}
    for given, training, light in ((profile, "2", "1"), (own, "3", "3")):
        compile_pipeline("pretrain", tmp_path / "p.yaml", Placement(image=NAMED, profile=Profile.of(given)))
        executors = read(tmp_path / "p.yaml")[0]["deploymentSpec"]["executors"]
        threads = {
            name: {each["name"]: each["value"] for each in executor["container"]["env"]}["OMP_NUM_THREADS"]
            for name, executor in executors.items()
        }
        assert threads.pop("exec-pretrain") == training
        assert threads == dict.fromkeys(["exec-prepare-data", "exec-register", "exec-close-record"], light)


def test_a_choice_among_models_that_are_not_pinned_is_never_reused(tmp_path):
    for unknown, reused in ((frozenset(), True), (frozenset({"candidates"}), False)):
        package, _ = compile_with(tmp_path, "finetune", unfingerprinted=unknown)
        options = tasks(package)["exec-select-source"]["cachingOptions"]
        assert options.get("enableCache", False) is reused
