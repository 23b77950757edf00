"""Placement of a pipeline's steps: image, environment, CPU, memory and other settings of the profile for every task.

A task's placement depends only on its component.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kfp.dsl import PipelineTask

from headstart.errors import InputError
from headstart.tracking.runs import KFP_RUN_VARIABLE
from headstart.version import CODE_VARIABLE
from headstart_pipelines.profile import (
    AcceleratedSteps,
    Distribution,
    Profile,
    Reference,
    Retries,
    Steps,
    TrainingSteps,
    seconds,
)
from headstart_pipelines.step_kinds import LIGHT_STEPS, SELECTION_STEPS, SPIN_COUNT, TRAINING_STEPS

# Set by KFP on each pod of a run.
_RUN_LABEL = "pipeline/runid"
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Placement:
    """Settings applied to each task of a pipeline.

    Args:
        image: of every step; None for the profile's, else the default.
        environment: variables of every step.
        profile: the settings of a cluster; None for none.
        unfingerprinted: inputs of unknown content, whose dependents are never reused: the data of a role ("source",
            "target"), or the models that are "candidates".
    """

    image: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    profile: Profile | None = None
    unfingerprinted: frozenset[str] = frozenset()

    @property
    def strategies_at_once(self) -> int | None:
        """The number of strategies that run at once; None for all."""
        return self.profile.parallelism if self.profile else None

    def parts_of(self, role: str) -> int:
        """The number of steps that read the data of a role before another joins them; 0 for one that does all."""
        return getattr(self.profile.preparation_parts, role) or 0 if self.profile else 0

    def place(self, task: PipelineTask, name: str, *, cached: bool = True, retried: bool = True) -> PipelineTask:
        """Set the task's display name, image, environment, caching, and the settings of the profile.

        With a profile, a task is never reused if its image has no digest. One that is not `retried` fails at once.

        Raises:
            InputError: a variable is set both here and in the profile.
        """
        image = self.image or (self.profile.image if self.profile else None)
        digest = image.rpartition("@")[2] if image and "@" in image else None
        task.set_display_name(name)
        # A cluster's cache key contains the image's name, but neither its current content nor the environment.
        task.set_caching_options(cached and not (self.profile and digest is None))
        if image:
            task.set_container_image(image)
        steps = self._steps_of(task)
        for variable, value in sorted(self._environment(image, digest, steps).items()):
            task.set_env_variable(variable, value)
        if self.profile and steps:
            _place_on_kubernetes(
                task, self.profile, steps if retried else steps.model_copy(update={"retries": Retries()})
            )
        return task

    def _steps_of(self, task: PipelineTask) -> Steps | None:
        if self.profile is None:
            return None
        kinds = {
            **dict.fromkeys(LIGHT_STEPS, self.profile.light),
            **dict.fromkeys(SELECTION_STEPS, self.profile.selection or self.profile.training),
            **dict.fromkeys(TRAINING_STEPS, self.profile.training),
        }
        component = task.component_spec.name
        if component not in kinds:
            raise ValueError(f"{component} is in none of the sets of step_kinds.py; say there what kind of step it is")
        return kinds[component]

    def _environment(self, image: str | None, digest: str | None, steps: Steps | None) -> dict[str, str]:
        own = {CODE_VARIABLE: digest} if digest else {}
        if isinstance(steps, TrainingSteps) and steps.distribution:
            own |= _distributed(steps.distribution, image)
        own |= self.environment
        if self.profile is None:
            return own
        given = self.profile.environment
        twice = own.keys() & {*given.values, *given.referenced}
        if twice:
            raise InputError(f"environment: {min(twice)} is set by headstart itself; remove it from the profile.")
        return {**(_threads(steps) if steps else {}), **given.values, **own}


def _threads(steps: Steps) -> dict[str, str]:
    """Return the variables that limit OpenMP, which counts the node's cores, to the step's own."""
    return {"OMP_NUM_THREADS": str(steps.cpu.threads), "GOMP_SPINCOUNT": SPIN_COUNT}


def _distributed(distribution: Distribution, image: str | None) -> dict[str, str]:
    """Return the variables that make a training run as a TrainJob."""
    from headstart.jobs import launch, trainjob

    values = {
        launch.NODES_VARIABLE: str(distribution.nodes),
        launch.PROCESSES_VARIABLE: str(distribution.processes),
        trainjob.DEVICE_VARIABLE: distribution.device,
        trainjob.RUNTIME_VARIABLE: distribution.runtime,
        trainjob.MEMORY_VARIABLE: distribution.memory,
        # The nodes run the same image as the step.
        trainjob.IMAGE_VARIABLE: image,
        trainjob.QUEUE_VARIABLE: distribution.queue,
    }
    return {variable: value for variable, value in values.items() if value}


def _place_on_kubernetes(task: PipelineTask, profile: Profile, steps: Steps) -> None:
    """Apply the settings for a task's kind of step.

    Privilege escalation, capabilities and the seccomp profile need no setting: KFP denies every step the first two and
    sets RuntimeDefault (from 2.16 on). KFP offers no read-only root file system.
    """
    from kfp import kubernetes

    _place_on_node(task, steps)
    kubernetes.set_security_context(
        task, run_as_user=profile.run_as.user, run_as_group=profile.run_as.group, run_as_non_root=True
    )
    kubernetes.use_field_path_as_env(task, KFP_RUN_VARIABLE, f"metadata.labels['{_RUN_LABEL}']")
    for reference in profile.environment.config_maps:
        kubernetes.use_config_map_as_env(task, **_reference(reference, "config_map"))
    for reference in profile.environment.secrets:
        kubernetes.use_secret_as_env(task, **_reference(reference, "secret"))
    if profile.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [profile.image_pull_secret])
    for volume, path, medium, size in steps.mounts:
        kubernetes.empty_dir_mount(task, volume, path, medium, size)
    for claimed in steps.volumes:
        kubernetes.mount_pvc(task, claimed.claim, claimed.path, claimed.subpath)


def _place_on_node(task: PipelineTask, steps: Steps) -> None:
    from kfp import kubernetes

    task.set_cpu_request(steps.cpu.request).set_cpu_limit(steps.cpu.limit)
    task.set_memory_request(steps.memory.request).set_memory_limit(steps.memory.limit)
    if isinstance(steps, AcceleratedSteps) and steps.accelerator:
        task.set_accelerator_type(steps.accelerator.type).set_accelerator_limit(steps.accelerator.count)
    for key, value in sorted(steps.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in steps.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value,
            effect=toleration.effect,
            toleration_seconds=toleration.seconds,
        )
    labels = {**steps.labels, **({_QUEUE_LABEL: steps.queue} if steps.queue else {})}
    for key, value in sorted(labels.items()):
        kubernetes.add_pod_label(task, key, value)
    for key, value in sorted(steps.annotations.items()):
        kubernetes.add_pod_annotation(task, key, value)
    kubernetes.set_timeout(task, seconds(steps.timeout))
    retries = steps.retries
    if retries.count:
        task.set_retry(
            retries.count,
            backoff_duration=f"{seconds(retries.wait)}s",
            backoff_factor=float(retries.factor),
            backoff_max_duration=f"{retries.lasting(steps.timeout)}s",
        )


def _reference(reference: Reference, kind: str) -> dict[str, Any]:
    return {f"{kind}_name": reference.name, f"{kind}_key_to_env": reference.keys, "optional": reference.optional}
