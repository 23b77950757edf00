"""Profiles: resources and placement of a pipeline's steps on a cluster, in one YAML file; errors name the wrong key.

Forbidden settings have no key: no profile makes a step root or privileged, and none gives a light step an accelerator.
Faults that only a compiled pipeline shows are refused by pipelines/guards.py.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from headstart.sections import Section, read_mapping
from headstart.tracking.runs import KFP_RUN_VARIABLE

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where a container's shared memory is, not a temporary file)
_TEMPORARY = "/tmp"  # noqa: S108 (a volume of the step's own)

_DURATION = re.compile(r"([1-9]\d*)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# The amounts that KFP accepts, without units beyond any machine.
_MEMORY = re.compile(r"([1-9]\d*)(|k|M|G|T|Ki|Mi|Gi|Ti)")
_BYTES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_CORES = re.compile(r"(\d+(?:\.\d{1,3})?|[1-9]\d*m)")

# A retried step queues again.
_QUEUEING_SECONDS = 7 * 86_400


def _text(value: Any) -> Any:
    """Convert numbers to text, as Kubernetes requires; not booleans, whose original spelling is lost."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} must be text; write it in quotes")
    return str(value) if isinstance(value, int | float) else value


def _matching(pattern: str | re.Pattern[str], expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not {expected}")
        return value

    return AfterValidator(check)


_Text = Annotated[str, BeforeValidator(_text)]
_Duration = Annotated[_Text, _matching(_DURATION, "a time; write a whole number and s, m, h or d, for example 24h")]
_Memory = Annotated[
    _Text, _matching(_MEMORY, "an amount of memory; write a whole number and Mi, Gi or Ti, for example 16Gi")
]
_Cores = Annotated[_Text, _matching(_CORES, "a number of cores; write 4, 0.5 or 500m")]
# A name of a Kubernetes object.
_Name = Annotated[
    str,
    _matching(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "a name; use lower-case letters, digits, - and ., 253 at most"),
]
_Path = Annotated[str, _matching(r"(/[^/\0:]+)+", "an absolute path below /, for example /data")]
_Resource = Annotated[
    str, _matching(r"[a-z0-9.-]+\.[a-z]+/[\w.-]+", "the name of a resource, for example nvidia.com/gpu")
]
_Texts = dict[str, _Text]


def _variables(values: dict[str, str]) -> dict[str, str]:
    for variable in values:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise ValueError(f"{variable!r} is not a variable; use letters, digits and _, the first no digit")
    return values


def _labels(values: dict[str, str]) -> dict[str, str]:
    for key, value in _annotations(values).items():
        if not re.fullmatch(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", value, re.ASCII):
            raise ValueError(
                f"{key}: {value!r} is not the value of a label; use letters, digits, -, _ and ., 63 at most, of which "
                "the first and the last are letters or digits"
            )
    return values


def _annotations(values: dict[str, str]) -> dict[str, str]:
    for key in values:
        if not re.fullmatch(r"([a-z0-9][a-z0-9.-]{0,252}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", key, re.ASCII):
            raise ValueError(f"{key!r} is not a key of Kubernetes; write prefix.example/name, or a name alone")
    return values


_Labels = Annotated[_Texts, AfterValidator(_labels)]
_Annotations = Annotated[_Texts, AfterValidator(_annotations)]
_Variables = Annotated[_Texts, AfterValidator(_variables)]


def seconds(duration: str) -> int:
    """Convert a time such as 24h to seconds."""
    number, unit = re.fullmatch(_DURATION, duration).groups()  # type: ignore[union-attr]
    return int(number) * _SECONDS[unit]


def _bytes(amount: str) -> float:
    number, unit = re.fullmatch(_MEMORY, amount).groups()  # type: ignore[union-attr]
    return int(number) * _BYTES[unit]


def _cores(amount: str) -> float:
    return float(amount.removesuffix("m")) / (1000 if amount.endswith("m") else 1)


class Cores(Section):
    """CPU cores: `request` is reserved for a step by the scheduler, `limit` is the most that it can use."""

    request: _Cores
    limit: _Cores

    @model_validator(mode="after")
    def _request_is_within_limit(self) -> Self:
        if not 0 < _cores(self.request) <= _cores(self.limit):
            raise ValueError(f"request must be above 0 and at most limit, but is {self.request} of {self.limit}")
        return self

    @property
    def threads(self) -> int:
        """The number of threads that can run at once within the limit, at least 1."""
        return max(1, int(_cores(self.limit)))


class Memory(Section):
    """Memory: `request` is reserved for a step by the scheduler; a step that uses more than `limit` is killed."""

    request: _Memory
    limit: _Memory

    @model_validator(mode="after")
    def _request_is_within_limit(self) -> Self:
        if _bytes(self.request) > _bytes(self.limit):
            raise ValueError(f"request must be at most limit, but is {self.request} of {self.limit}")
        return self


class Accelerator(Section):
    """A device plugin's resource, for example nvidia.com/gpu, and the number of devices of one step."""

    type: _Resource
    count: Annotated[int, Field(ge=1, le=64)] = 1


class Toleration(Section):
    """A node taint that a step tolerates."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: _Text | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("value has no meaning with operator Exists; remove it, or use Equal")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("key: missing; add it, or use operator Exists to tolerate every taint")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("seconds has a meaning with effect NoExecute only; remove it")
        return self


class Volume(Section):
    """A persistent volume claim and its mount path in a step.

    KFP cannot mount a claim read-only; for that, set the claim's access mode to ReadOnlyMany.
    """

    claim: _Name
    path: _Path
    subpath: str = ""


class Retries(Section):
    """Retries of a failed step: at most `count`, the first after `wait`, each later one after `factor` times the last
    wait."""

    count: Annotated[int, Field(ge=0, le=10)] = 0
    wait: _Duration = "30s"
    # Argo accepts whole numbers only.
    factor: Annotated[int, Field(ge=1, le=10)] = 2

    def lasting(self, timeout: str) -> int:
        """Return the seconds from a step's first start in which all of its retries can start and finish.

        Argo ends a step after that time regardless of its retries. With KFP's default, one hour, a longer training
        would have no retries.
        """
        waits = sum(seconds(self.wait) * self.factor**retry for retry in range(self.count))
        return (self.count + 1) * (seconds(timeout) + _QUEUEING_SECONDS) + waits


class Distribution(Section):
    """A training on several machines, as a TrainJob with the training runtime `runtime`.

    Args:
        processes: on each node; each uses a GPU, or with `device: cpu` a core.
        memory: of each node; None for the runtime's.
        queue: Kueue's LocalQueue in which the TrainJob waits until all of its nodes are free.
    """

    nodes: Annotated[int, Field(ge=2, le=4096)]
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    device: Literal["gpu", "cpu"] = "gpu"
    memory: _Memory | None = None
    runtime: _Name = "headstart"
    queue: _Name | None = None


class Steps(Section):
    """Resources and settings of one kind of step.

    Args:
        shared_memory: the size of /dev/shm, part of `memory`; without it a container has 64 MiB.
        temporary: the size of /tmp, a private volume on the node's disk.
        queue: Kueue's LocalQueue in which the step waits for its quota.
        timeout: the time limit of one attempt, counted from the assignment of a node.
    """

    cpu: Cores
    memory: Memory
    shared_memory: _Memory | None = None
    temporary: _Memory
    node_selector: _Labels = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], Field(strict=False)] = ()
    volumes: Annotated[tuple[Volume, ...], Field(strict=False)] = ()
    queue: _Name | None = None
    labels: _Labels = Field(default_factory=dict)
    annotations: _Annotations = Field(default_factory=dict)
    timeout: _Duration
    retries: Retries = Retries()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.shared_memory and _bytes(self.shared_memory) >= _bytes(self.memory.limit):
            raise ValueError(
                f"shared_memory is a part of memory and must be below memory.limit, but is {self.shared_memory} of "
                f"{self.memory.limit}"
            )
        for what, used in (
            ("path", [_SHARED_MEMORY, _TEMPORARY, *(volume.path for volume in self.volumes)]),
            ("claim", [volume.claim for volume in self.volumes]),
        ):
            for value in used:
                if used.count(value) > 1:
                    raise ValueError(f"volumes: the {what} {value} is used twice; give each volume one of its own")
        return self

    @property
    def mounts(self) -> Iterator[tuple[str, str, str | None, str]]:
        """Yield the step's own writable directories: volume, path, medium and size."""
        yield "headstart-temporary", _TEMPORARY, None, self.temporary
        if self.shared_memory:
            yield "headstart-shared-memory", _SHARED_MEMORY, "Memory", self.shared_memory


class AcceleratedSteps(Steps):
    """Resources of a step that runs networks over whole data sets."""

    accelerator: Accelerator | None = None


class TrainingSteps(AcceleratedSteps):
    """Resources of the steps that train networks."""

    distribution: Distribution | None = None


class Reference(Section):
    """Environment variables that Kubernetes fills from a secret or config map.

    `keys` maps keys to variables, or lists keys that have the same names as their variables. If `optional`, a step
    starts even if something is missing.
    """

    name: _Name
    keys: dict[str, str]
    optional: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("keys"), list):
            return {**values, "keys": {str(key): key for key in values["keys"]}}
        return values

    @model_validator(mode="after")
    def _fills_variables(self) -> Self:
        _variables(dict.fromkeys(self.keys.values(), ""))
        return self


class Environment(Section):
    """Environment variables of every step: plain `values`, and those from config maps and secrets of the namespace."""

    values: _Variables = Field(default_factory=dict)
    config_maps: Annotated[tuple[Reference, ...], Field(strict=False)] = ()
    secrets: Annotated[tuple[Reference, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _sets_each_variable_once(self) -> Self:
        # Kubernetes refuses a pod that sets a variable both by value and by reference.
        known = [*self.values, *self.referenced]
        for variable in known:
            if known.count(variable) > 1:
                raise ValueError(f"{variable} is set twice; keep one of them")
        if KFP_RUN_VARIABLE in known:
            raise ValueError(f"{KFP_RUN_VARIABLE} is set to the id of the run in every step; remove it")
        return self

    @property
    def referenced(self) -> list[str]:
        """The variables that are set by reference."""
        return [variable for reference in (*self.config_maps, *self.secrets) for variable in reference.keys.values()]


class Identity(Section):
    """The user and group of steps: numbers, so that Kubernetes can verify that they are not root."""

    user: Annotated[int, Field(ge=1, le=2**31 - 1)] = 10001
    group: Annotated[int, Field(ge=0, le=2**31 - 1)] = 10001


_Parts = Annotated[int, Field(ge=2, le=64)] | None


class Parts(Section):
    """The number of steps that read the files of the source's and of the target's data, 16 at once, before another step
    joins what they have read; None for one step that does all. Each takes 50 to 57 kB of the run's workflow."""

    source: _Parts = None
    target: _Parts = None


class Profile(Section):
    """Resources and placement of all steps of a pipeline.

    Args:
        service_account: the Kubernetes service account of the run's pods, set by `submit`; None for the server's
            default. A compiled file cannot contain it.
        parallelism: the number of strategies to run at once; None for all.
        preparation_parts: for data sets that one step would read too slowly.
        mlflow_plugin: whether KFP's own MLflow plugin creates the runs of a submission; if not, the steps do so alone.
        training: for the steps that train networks.
        selection: for the step that selects a source, which is one process; None for the resources of training steps.
        light: for the steps that prepare data, evaluate and register.
    """

    image: Annotated[str, Field(min_length=1)] | None = None
    image_pull_secret: _Name | None = None
    service_account: _Name | None = None
    run_as: Identity = Identity()
    parallelism: Annotated[int, Field(ge=1, le=1024)] | None = None
    preparation_parts: Parts = Parts()
    mlflow_plugin: bool = False
    environment: Environment = Environment()
    training: TrainingSteps
    selection: AcceleratedSteps | None = None
    light: Steps


def load_profile(path: Path) -> Profile:
    """Read a profile file.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a profile; the key is named.
    """
    return Profile.of(read_mapping(path, "profile"), at=str(path))
