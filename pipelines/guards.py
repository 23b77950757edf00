"""Guards: checks that refuse an unsafe compiled pipeline before it is uploaded to a cluster.

A guard reads only the compiled package, so it works for any KFP v2 pipeline, including nested pipelines and loops, and
for files edited by hand.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headstart.errors import InputError
from headstart_pipelines.step_kinds import LIGHT_STEPS

_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
# KFP's own volume operations, which run no container.
_NO_CONTAINER = "argostub/"

# Names of secrets, but not of files that hold them, nor words that merely contain such a name.
_SECRET_NAME = re.compile(
    r"(token(?!iz)|passw(or)?d|passphrase|secret|credential|api[_-]?key|access[_-]?key|private[_-]?key)", re.IGNORECASE
)
_NAME_OF_A_PLACE = re.compile(r"[_-](file|path|dir|name)$", re.IGNORECASE)
_SECRET_VALUE = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,}|hf_[A-Za-z0-9]{30,}|glpat-[\w-]{20})"),
    # A placeholder for the password, $(PASSWORD) or {password}, is filled in at the place of use.
    "a URL with a password": re.compile(r"\w://[^\s/:@'\"]*:(?![${%])[^\s/@'\"]+@"),
}
# Numbers and booleans are settings, for example max_tokens.
_PLAIN_TYPES = ("NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN")

# Separators between words of a shell command or strings of a list, with options in between.
_BETWEEN = r"[\s\"',]+(?:-[^\s\"',]+[\s\"',]+)*"
_INSTALLS = re.compile(
    rf"\bpip[\d.]*{_BETWEEN}(install|download)\b|\buv{_BETWEEN}(pip|sync|add|tool)\b|\b(ensurepip|easy_install|get-pip)\b"
    rf"|\b(conda|mamba|micromamba|apt|apt-get|yum|dnf|microdnf|npm){_BETWEEN}install\b|\bapk{_BETWEEN}add\b"
)

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where a container's shared memory is, not a temporary file)


@dataclass(frozen=True)
class _Step:
    """An executor of the package: the display names of its tasks, its component, its container, and its platform
    settings."""

    name: str
    component: str
    container: Mapping[str, Any]
    platform: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The container's complete command line, including the source of a lightweight component."""
        return " ".join(map(str, [*self.container.get("command", []), *self.container.get("args", [])]))

    @property
    def accelerators(self) -> str:
        """Its accelerators, for example "2 nvidia.com/gpu"; empty if it has none."""
        held = self.container.get("resources", {}).get("accelerator", {})
        count = held.get("resourceCount") or held.get("count") or ""
        return f"{count} {held.get('resourceType') or held.get('type')}" if str(count) not in ("", "0") else ""


def refuse_unsafe(package: Mapping[str, Any], platform: Mapping[str, Any], *, allow_tag: bool) -> None:
    """Refuse a compiled pipeline that is unsafe on a cluster.

    Args:
        package: the pipeline's specification, the first document of a compiled file.
        platform: the platform's, its second document; empty if there is none.
        allow_tag: accept an image without a digest.

    Raises:
        InputError: the message has one line for each problem, with its steps, cause and remedy.
    """
    # The steps with each problem, as an ordered set.
    problems: dict[str, dict[str, None]] = {}
    for guard in _GUARDS:
        if guard is _images and allow_tag:
            continue
        for step in _steps(package, platform):
            for problem in guard(step):
                problems.setdefault(problem, {})[step.name] = None
    for name, problem in _parameters(package):
        problems.setdefault(problem, {})[name] = None
    if problems:
        raise InputError("\n".join(f"{', '.join(names)}: {problem}" for problem, names in problems.items()))


def _images(step: _Step) -> Iterator[str]:
    image = step.container.get("image", "")
    if not _DIGEST.fullmatch(image):
        yield (
            f"the image {image} is named without a digest, so that what runs may change and reused results may be "
            "those of other code; name it as NAME@sha256:… (make image prints it), or allow it with --allow-tag."
        )


def _shared_memory(step: _Step) -> Iterator[str]:
    mounted = any(
        mount.get("mountPath", "").rstrip("/") == _SHARED_MEMORY and mount.get("medium") == "Memory"
        for mount in step.platform.get("emptyDirMounts", [])
    )
    if step.accelerators and not (mounted or step.platform.get("enabledSharedMemory")):
        yield (
            f"it holds {step.accelerators} and has the 64 MiB of /dev/shm that a container has by itself, of which "
            "data loaders and NCCL die; set training.shared_memory in the profile, for example to 8Gi."
        )


def _root(step: _Step) -> Iterator[str]:
    context = step.platform.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield (
            "nothing keeps it from running as root; compile it with a profile (--profile), or set runAsNonRoot to true."
        )
    # In YAML, a protobuf's 64-bit number is text.
    if str(context.get("runAsUser", "")) == "0":
        yield "it runs as user 0, which is root; give the profile's run_as.user the number of another user."


def _privilege(step: _Step) -> Iterator[str]:
    context = step.platform.get("securityContext", {})
    for key in ("privileged", "allowPrivilegeEscalation"):
        if context.get(key):
            yield f"its security context sets {key}, which no step needs; remove it."
    if context.get("capabilities", {}).get("add"):
        yield "its security context adds capabilities, which no step needs; remove them."


def _installations(step: _Step) -> Iterator[str]:
    found = _INSTALLS.search(step.command)
    if found:
        yield (
            f"it installs software when it starts ({' '.join(found[0].split())}), which nobody has checked and which "
            "may be another one each time; build it into the image, and leave packages_to_install out."
        )


def _light_steps(step: _Step) -> Iterator[str]:
    if step.component in LIGHT_STEPS and step.accelerators:
        yield (
            f"it holds {step.accelerators}, which would idle: it prepares data or reports; give accelerators to the "
            "training steps alone."
        )


def _secret_variables(step: _Step) -> Iterator[str]:
    for variable in step.container.get("env", []):
        name, value = variable.get("name", ""), str(variable.get("value", ""))
        if value and _is_secret_name(name):
            yield (
                f"the variable {name} is a plain value, which everyone who sees the pipeline can read; take it from a "
                "secret: environment.secrets in the profile."
            )
        for kind in _secrets_in(value):
            yield (
                f"the variable {name} holds {kind}, which everyone who sees the pipeline can read; take it from a "
                "secret: environment.secrets in the profile."
            )
    for kind in _secrets_in(step.command):
        yield f"its command holds {kind}; take it from a secret: environment.secrets in the profile."


_GUARDS: tuple[Callable[[_Step], Iterator[str]], ...] = (
    _images, _shared_memory, _root, _privilege, _secret_variables, _installations, _light_steps
)  # fmt: skip


def _parameters(package: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield parameters of the pipeline and its components that hold a secret or are named like one, with
    the problem."""
    remedy = (
        "parameters are shown on the run's page and kept with the run; take it from a secret: environment.secrets in "
        "the profile."
    )
    for name, component in _components(package):
        for side in ("inputDefinitions", "outputDefinitions"):
            for parameter, definition in component.get(side, {}).get("parameters", {}).items():
                if definition.get("parameterType") not in _PLAIN_TYPES and _is_secret_name(parameter):
                    yield name, f"the parameter {parameter} is called like a secret; {remedy}"
                for key, kind in _secrets_below(definition.get("defaultValue")):
                    yield name, f"the default of the parameter {parameter}{key} {kind}; {remedy}"
        for task in component.get("dag", {}).get("tasks", {}).values():
            for parameter, given in task.get("inputs", {}).get("parameters", {}).items():
                constant = given.get("runtimeValue", {}).get("constant")
                for key, kind in _secrets_below(constant):
                    yield _shown(task), f"the value of the parameter {parameter}{key} {kind}; {remedy}"


def _secrets_below(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the positions of secrets in a parameter's value, each with the reason."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, str) and inner and _is_secret_name(str(name)):
                yield f"{key}.{name}", "is called like a secret"
            yield from _secrets_below(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secrets_below(inner, f"{key}[{index}]")
    elif isinstance(value, str):
        for kind in _secrets_in(value):
            yield key, f"holds {kind}"


def _secrets_in(text: str) -> Iterable[str]:
    return [kind for kind, pattern in _SECRET_VALUE.items() if pattern.search(text)]


def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(name)) and not _NAME_OF_A_PLACE.search(name)


def _components(package: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield f"the pipeline {package.get('pipelineInfo', {}).get('name', '')}", package.get("root", {})
    names = _names(package)
    for name, component in package.get("components", {}).items():
        yield ", ".join(names.get(name, [name])), component


def _names(package: Mapping[str, Any]) -> dict[str, dict[str, None]]:
    """Return the display names of each component's tasks, without duplicates."""
    found: dict[str, dict[str, None]] = {}
    for component in (package.get("root", {}), *package.get("components", {}).values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            found.setdefault(task.get("componentRef", {}).get("name", ""), {})[_shown(task)] = None
    return found


def _shown(task: Mapping[str, Any]) -> str:
    return str(task.get("taskInfo", {}).get("name", ""))


def _steps(package: Mapping[str, Any], platform: Mapping[str, Any]) -> Iterator[_Step]:
    shown = _names(package)
    names: dict[str, list[str]] = {}
    for component, definition in package.get("components", {}).items():
        if "executorLabel" in definition:
            names.setdefault(definition["executorLabel"], []).extend(shown.get(component, ()))
    given = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for label, executor in package.get("deploymentSpec", {}).get("executors", {}).items():
        container = executor.get("container")
        if container is None or container.get("image", "").startswith(_NO_CONTAINER):
            continue
        yield _Step(
            name=", ".join(names.get(label) or [label]),
            # The compiler appends a number to a component that occurs again.
            component=re.sub(r"-\d+$", "", label.removeprefix("exec-")),
            container=container,
            platform=given.get(label, {}),
        )
