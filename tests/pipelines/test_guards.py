"""What is refused of a compiled pipeline before it reaches a cluster, and what is not."""

import copy
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, kubernetes

from headstart.errors import InputError
from headstart_pipelines.catalog import PIPELINES, compile_pipeline
from headstart_pipelines.documents import read_documents
from headstart_pipelines.guards import refuse_unsafe
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import load_profile

PROFILES = Path(__file__).parent.parent.parent / "infra" / "profiles"
IMAGE = f"registry.example:5000/team/step:1.2@sha256:{'9f' * 32}"

Spec = tuple[dict[str, Any], dict[str, Any]]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def count(folder: str, max_tokens: int = 8, tokenizer: str = "words", key: str = "") -> str:
    return folder


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare_data(folder: str) -> str:
    return folder


@dsl.component(base_image=IMAGE, install_kfp_package=False, packages_to_install=["requests"])
def download(url: str) -> str:
    return url


@dsl.container_component
def shell(line: str):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", "echo pip is a program; pipeline install"], args=[line])


def secure(task: dsl.PipelineTask) -> dsl.PipelineTask:
    return kubernetes.set_security_context(task, run_as_user=10001, run_as_non_root=True)


def compiled(pipeline: Any) -> Spec:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        package, *platforms = read_documents(file.read_text())
    return package, platforms[0] if platforms else {}


def foreign() -> Any:
    """A pipeline that is not headstart's: a loop in a condition in a pipeline in a pipeline, containers, KFP's own
    operations on volumes, an importer, and two steps of the same component."""

    @dsl.pipeline(name="inner")
    def inner(folder: str, times: list):
        first = secure(count(folder=folder)).set_display_name("first count")
        with dsl.If(first.output != "", "something"), dsl.ParallelFor(times) as time:
            secure(shell(line=time)).set_display_name("shout")

    @dsl.pipeline(name="outer")
    def outer(folder: str, times: list):
        claim = kubernetes.CreatePVC(access_modes=["ReadWriteOnce"], size="1Gi", pvc_name_suffix="-scratch")
        second = secure(count(folder=folder, key="a")).set_display_name("second count").after(claim)
        kubernetes.mount_pvc(second, claim.outputs["name"], "/scratch")
        dsl.importer(artifact_uri="s3://bucket/data", artifact_class=dsl.Dataset)
        inner(folder=second.output, times=times)
        kubernetes.DeletePVC(pvc_name=claim.outputs["name"]).after(second)

    return outer


@pytest.fixture(scope="session")
def others() -> Spec:
    return compiled(foreign())


@pytest.fixture(scope="session")
def ours(once: Callable[..., Path]) -> Spec:
    """The pipeline transfer with training steps that hold GPUs."""

    def make(folder: Path) -> None:
        placement = Placement(image=IMAGE, profile=load_profile(PROFILES / "single-gpu.yaml"))
        compile_pipeline("transfer", folder / "transfer.yaml", placement)

    package, platform = yaml.safe_load_all((once("guarded", make) / "transfer.yaml").read_text())
    return package, platform


def executors(spec: Spec) -> dict[str, dict[str, Any]]:
    """The containers of the executors that have one of their own."""
    found = {label: each.get("container") for label, each in spec[0]["deploymentSpec"]["executors"].items()}
    return {label: each for label, each in found.items() if each and not each["image"].startswith("argostub/")}


def given(spec: Spec, label: str) -> dict[str, Any]:
    """What the platform gives an executor."""
    platforms = spec[1].setdefault("platforms", {}).setdefault("kubernetes", {})
    return platforms.setdefault("deploymentSpec", {}).setdefault("executors", {}).setdefault(label, {})


def shown(spec: Spec, label: str) -> list[str]:
    """The names that an executor's tasks have on KFP's page."""
    components = {name for name, each in spec[0]["components"].items() if each.get("executorLabel") == label}
    dags = [each["dag"] for each in (spec[0]["root"], *spec[0]["components"].values()) if "dag" in each]
    found = [task for dag in dags for task in dag["tasks"].values()]
    return [task["taskInfo"]["name"] for task in found if task["componentRef"]["name"] in components]


def changed(spec: Spec) -> Spec:
    return copy.deepcopy(spec)


def problems(spec: Spec, *, allow_tag: bool = False) -> list[str]:
    """What is refused, a line for each problem."""
    try:
        refuse_unsafe(*spec, allow_tag=allow_tag)
    except InputError as error:
        return str(error).splitlines()
    return []


def holds_gpu(spec: Spec, label: str) -> None:
    container = executors(spec)[label]
    container["resources"] = {"accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "1"}}


def has_shared_memory(spec: Spec, label: str) -> None:
    given(spec, label)["emptyDirMounts"] = [{"volumeName": "a", "mountPath": "/dev/shm", "medium": "Memory"}]  # noqa: S108


# What is safe


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("profile", ["cpu", "single-gpu", "multi-gpu", "multi-node"])
def test_no_profile_that_ships_is_refused_with_any_pipeline(pipeline, profile, tmp_path):
    placement = Placement(image=IMAGE, profile=load_profile(PROFILES / f"{profile}.yaml"))

    compile_pipeline(pipeline, tmp_path / "compiled.yaml", placement)

    assert (tmp_path / "compiled.yaml").exists()


def test_another_pipeline_that_is_safe_is_let_through(others):
    assert {"exec-count", "exec-shell"} <= executors(others).keys()
    assert problems(others) == []


# Each guard, on each step of both pipelines: it fires, for that step alone, and it names the remedy


def tag(spec: Spec, label: str) -> None:
    executors(spec)[label]["image"] = "registry.example:5000/team/step:1.2"


def short_digest(spec: Spec, label: str) -> None:
    executors(spec)[label]["image"] = "registry.example/step@sha256:0a"


def image_of_a_parameter(spec: Spec, label: str) -> None:
    executors(spec)[label]["image"] = "{{$.inputs.parameters['image']}}"


def gpu_without_shared_memory(spec: Spec, label: str) -> None:
    holds_gpu(spec, label)
    given(spec, label).pop("emptyDirMounts", None)


def gpu_with_shared_memory_on_the_disk(spec: Spec, label: str) -> None:
    holds_gpu(spec, label)
    given(spec, label)["emptyDirMounts"] = [{"volumeName": "a", "mountPath": "/dev/shm"}]  # noqa: S108


def gpus_whose_number_is_a_parameter(spec: Spec, label: str) -> None:
    gpu_without_shared_memory(spec, label)
    executors(spec)[label]["resources"]["accelerator"]["resourceCount"] = "{{$.inputs.parameters['gpus']}}"


def no_settings(spec: Spec, label: str) -> None:
    spec[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].pop(label)
    executors(spec)[label].pop("resources", None)


def no_security_context(spec: Spec, label: str) -> None:
    given(spec, label).pop("securityContext")


def root_allowed(spec: Spec, label: str) -> None:
    given(spec, label)["securityContext"]["runAsNonRoot"] = False


def user_0(spec: Spec, label: str) -> None:
    given(spec, label)["securityContext"]["runAsUser"] = "0"


def privileged(spec: Spec, label: str) -> None:
    given(spec, label)["securityContext"]["privileged"] = True


def escalation(spec: Spec, label: str) -> None:
    given(spec, label)["securityContext"]["allowPrivilegeEscalation"] = True


def capability(spec: Spec, label: str) -> None:
    given(spec, label)["securityContext"]["capabilities"] = {"add": ["SYS_ADMIN"]}


def variable(name: str, value: str) -> Callable[[Spec, str], None]:
    def change(spec: Spec, label: str) -> None:
        executors(spec)[label].setdefault("env", []).append({"name": name, "value": value})

    return change


def line(text: str) -> Callable[[Spec, str], None]:
    def change(spec: Spec, label: str) -> None:
        executors(spec)[label]["args"] = ["sh", "-c", text]

    return change


UNSAFE: dict[str, tuple[Callable[[Spec, str], None], str]] = {
    "a tag": (tag, "name it as NAME@sha256:…"),
    "a short digest": (short_digest, "name it as NAME@sha256:…"),
    "an image from a parameter": (image_of_a_parameter, "name it as NAME@sha256:…"),
    "a GPU without shared memory": (gpu_without_shared_memory, "set training.shared_memory in the profile"),
    "shared memory on the disk": (gpu_with_shared_memory_on_the_disk, "set training.shared_memory in the profile"),
    "GPUs by a parameter": (gpus_whose_number_is_a_parameter, "set training.shared_memory in the profile"),
    "no settings": (no_settings, "compile it with a profile"),
    "no security context": (no_security_context, "set runAsNonRoot to true"),
    "root allowed": (root_allowed, "set runAsNonRoot to true"),
    "user 0": (user_0, "give the profile's run_as.user the number of another user"),
    "privileged": (privileged, "sets privileged, which no step needs; remove it"),
    "escalation": (escalation, "sets allowPrivilegeEscalation, which no step needs; remove it"),
    "a capability": (capability, "adds capabilities, which no step needs; remove them"),
    "a token": (variable("HF_TOKEN", "x"), "the variable HF_TOKEN is a plain value"),
    "a password": (variable("dbPassword", "x"), "environment.secrets in the profile"),
    "a secret": (variable("CLIENTSECRET", "x"), "environment.secrets in the profile"),
    "a secret key": (variable("AWS_SECRET_ACCESS_KEY", "x"), "environment.secrets in the profile"),
    "an API key": (variable("OPENAI_API_KEY", "x"), "environment.secrets in the profile"),
    "an AWS key under another name": (variable("A", f"AKIA{'Z2' * 8}"), "A holds an AWS access key"),
    "a URL with a password": (variable("MLFLOW_TRACKING_URI", "https://me:pa55@host/"), "holds a URL with a password"),
    "a URL with a password alone": (variable("BROKER", "redis://:pa55@host:6379/0"), "holds a URL with a password"),
    "a key in the command": (line("echo -----BEGIN RSA PRIVATE KEY----- > k"), "its command holds a private key"),
    "pip": (line("pip install requests"), "build it into the image"),
    "pip with options": (line("python3.11 -m pip --quiet --no-input install -r r.txt"), "build it into the image"),
    "pip from Python": (line('run([sys.executable, "-m", "pip", "install", "x"])'), "build it into the image"),
    "pip3.11": (line("pip3.11 download x"), "build it into the image"),
    "ensurepip": (line("python3 -m ensurepip"), "build it into the image"),
    "uv": (line("uv pip install x"), "build it into the image"),
    "apt": (line("apt-get -y install curl"), "build it into the image"),
    "conda": (line("conda install -y x"), "build it into the image"),
    "apk": (line("apk --no-cache add curl"), "build it into the image"),
}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("whose", ["ours", "others"])
def test_what_is_unsafe_is_refused_by_the_name_of_the_step_that_does_it(name, whose, request):
    spec = request.getfixturevalue(whose)
    change, remedy = UNSAFE[name]

    for label in executors(spec):
        unsafe = changed(spec)
        change(unsafe, label)
        found = problems(unsafe)

        assert found, label
        for problem in found:
            named, _, cause = problem.partition(": ")
            assert set(named.split(", ")) == set(shown(spec, label)), problem
            # A light step that is given a GPU is refused for that as well.
            assert remedy in cause or "it prepares data or reports" in cause, problem
        assert any(remedy in problem for problem in found)


SAFE: dict[str, Callable[[Spec, str], None]] = {
    "another digest": lambda spec, label: executors(spec)[label].update(image=f"a/b@sha256:{'0' * 64}"),
    "a variable for a token's file": variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
    "a variable for a secret's name": variable("SECRET_NAME", "headstart-s3"),
    "an empty password": variable("PASSWORD", ""),
    "what sounds like a token": variable("TOKENIZERS_PARALLELISM", "false"),
    "a key that is none": variable("KEYS", "accuracy,loss"),
    "a URL": variable("MLFLOW_TRACKING_URI", "http://mlflow.headstart:5000/path@2"),
    "a user in a URL": variable("GIT", "ssh://git@host:22/repository"),
    "a URL whose password is filled in later": variable("DATABASE", "postgresql://$(USER):$(PASSWORD)@host/db"),
    "a word that contains pip": line("pipeline install; echo pip; uvicorn add"),
    "another user": lambda spec, label: given(spec, label)["securityContext"].update(runAsUser="1"),
    "no user": lambda spec, label: given(spec, label)["securityContext"].pop("runAsUser", None),
    "a toleration": lambda spec, label: given(spec, label).update(tolerations=[{"operator": "Exists"}]),
    "dropped capabilities": lambda spec, label: given(spec, label)["securityContext"].update(
        capabilities={"drop": ["ALL"]}, allowPrivilegeEscalation=False, privileged=False
    ),
    "no GPU": lambda spec, label: executors(spec)[label].update(
        resources={"accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": "0"}}
    ),
}


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("whose", ["ours", "others"])
def test_what_is_safe_is_let_through(name, whose, request):
    spec = request.getfixturevalue(whose)

    for label in executors(spec):
        safe = changed(spec)
        SAFE[name](safe, label)

        assert problems(safe) == [], label


@pytest.mark.parametrize("seed", range(20))
def test_among_harmless_changes_every_unsafe_one_is_found_and_nothing_else(seed, ours):
    """Changes that do not undo each other, on random steps."""
    draw = random.Random(seed)  # noqa: S311
    spec = changed(ours)
    labels = list(executors(spec))
    for name in draw.sample(["a variable for a token's file", "no user", "a toleration", "a URL"], 3):
        SAFE[name](spec, draw.choice(labels))
    independent = ["a tag", "root allowed", "privileged", "a token", "an API key", "pip"]
    made = {name: draw.choice(labels) for name in draw.sample(independent, draw.randint(1, len(independent)))}
    for name, label in made.items():
        UNSAFE[name][0](spec, label)

    found = problems(spec)

    assert len(found) == len(made)
    for name, label in made.items():
        (problem,) = [each for each in found if UNSAFE[name][1] in each and (name != "an API key" or "API" in each)]
        assert set(problem.partition(": ")[0].split(", ")) == set(shown(ours, label))


# Guards with an exception or a reach of their own


def test_a_tag_is_let_through_where_it_is_allowed_and_nothing_else_is(ours):
    spec = changed(ours)
    for label in executors(spec):
        tag(spec, label)
    assert problems(spec, allow_tag=True) == []

    user_0(spec, "exec-evaluate")
    assert [problem.partition(": ")[0] for problem in problems(spec, allow_tag=True)] == ["evaluate"]


@pytest.mark.parametrize("label", ["exec-prepare-data", "exec-prepare-data-2", "exec-evaluate", "exec-register-2"])
def test_a_step_that_prepares_or_reports_may_not_hold_a_gpu_whatever_else_it_has(label, ours):
    spec = changed(ours)
    holds_gpu(spec, label)
    has_shared_memory(spec, label)

    (problem,) = problems(spec)

    assert problem.startswith(f"{shown(ours, label)[0]}: it holds 1 nvidia.com/gpu, which would idle")


@pytest.mark.parametrize("label", ["exec-pretrain", "exec-finetune", "exec-fit-baselines", "exec-select-source"])
def test_a_step_that_runs_networks_may_hold_a_gpu(label, ours):
    assert executors(ours)[label]["resources"]["accelerator"]["resourceCount"] == "1"
    assert problems(ours) == []


def test_another_pipelines_step_may_hold_a_gpu_with_shared_memory(others):
    spec = changed(others)
    holds_gpu(spec, "exec-count")
    has_shared_memory(spec, "exec-count")

    assert problems(spec) == []


def test_the_same_problem_of_several_steps_is_one_line_with_their_names(ours):
    spec = changed(ours)
    for label in executors(spec):
        tag(spec, label)

    (problem,) = problems(spec)

    names = problem.partition(": ")[0].split(", ")
    assert sorted(names) == sorted(name for label in executors(ours) for name in shown(ours, label))


def test_packages_that_a_component_installs_are_refused():
    @dsl.pipeline(name="outer")
    def outer():
        secure(download(url="s3://bucket"))

    (problem,) = problems(compiled(outer))

    assert problem.startswith("download: it installs software when it starts")


def test_a_pipeline_that_nothing_was_set_for_is_refused_for_each_step():
    @dsl.pipeline(name="outer")
    def outer(folder: str):
        count(folder=folder)
        prepare_data(folder=folder)

    (problem,) = problems(compiled(outer))

    assert problem.startswith("count, prepare-data: nothing keeps it from running as root")


# Secrets in parameters


SECRET_PARAMETERS = ["token", "hf_token", "apiKey", "api-key", "db_password", "AWS_SECRET_ACCESS_KEY", "credentials"]
OTHER_PARAMETERS = ["tokenizer", "key", "keys", "token_file", "secret_name", "pass_rate", "name", "max_size"]


def with_parameter(spec: Spec, place: str, name: str, **definition: Any) -> Spec:
    """The spec with a further parameter of the pipeline (`root`) or of a component."""
    spec = changed(spec)
    target = spec[0]["root"] if place == "root" else spec[0]["components"][place]
    parameters = target.setdefault("inputDefinitions", {}).setdefault("parameters", {})
    parameters[name] = {"parameterType": "STRING", **definition}
    return spec


@pytest.mark.parametrize("name", SECRET_PARAMETERS)
@pytest.mark.parametrize(
    ("place", "named"), [("root", "the pipeline outer"), ("comp-count", "second count"), ("comp-inner", "inner")]
)
def test_a_parameter_that_is_called_like_a_secret_is_refused_wherever_it_is(name, place, named, others):
    (problem,) = problems(with_parameter(others, place, name))

    assert problem.startswith(f"{named}: the parameter {name} is called like a secret; ")
    assert "take it from a secret: environment.secrets in the profile" in problem


@pytest.mark.parametrize("name", OTHER_PARAMETERS)
@pytest.mark.parametrize("place", ["root", "comp-count", "comp-inner"])
def test_a_parameter_that_only_sounds_like_a_secret_is_let_through(name, place, others):
    assert problems(with_parameter(others, place, name)) == []


@pytest.mark.parametrize("kind", ["NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN"])
def test_a_number_is_no_secret_whatever_it_is_called(kind, others):
    assert problems(with_parameter(others, "root", "max_tokens", parameterType=kind)) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("https://me:pa55@host/", "value holds a URL with a password"),
        ({"url": ["", {"inner": f"AKIA{'Q7' * 8}"}]}, "value.url[1].inner holds an AWS access key"),
        ({"login": {"password": "pa55"}}, "value.login.password is called like a secret"),
        (f"ghp_{'a1' * 18}", "value holds a token"),
    ],
)
def test_a_secret_in_a_default_or_a_constant_is_refused_without_being_repeated(value, told, others):
    by_default = with_parameter(others, "root", "value", defaultValue=value)
    by_constant = with_parameter(others, "comp-count", "value")
    task = next(task for task in by_constant[0]["root"]["dag"]["tasks"].values() if "count" in task["taskInfo"]["name"])
    task["inputs"]["parameters"]["value"] = {"runtimeValue": {"constant": value}}

    for spec, named in ((by_default, "the pipeline outer"), (by_constant, "second count")):
        (problem,) = problems(spec)
        assert problem.startswith(f"{named}: ")
        assert f"the parameter {told}" in problem
        assert not any(secret in problem for secret in ("pa55", "AKIA", "ghp_"))


@pytest.mark.parametrize("value", ["s3://bucket/prefix", {"password": "", "epochs": 3, "uri": "a@b:c"}, [], None, 5])
def test_ordinary_values_are_let_through(value, others):
    assert problems(with_parameter(others, "root", "value", defaultValue=value)) == []
