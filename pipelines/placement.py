"""Where a pipeline's steps run: image and environment, applied to every task in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kfp.dsl import PipelineTask


@dataclass(frozen=True)
class Placement:
    """Applied to each task of a pipeline. `environment` is part of KFP's cache key; `image` None is the default.

    `parallelism` is how many strategies run at once, None for all.
    """

    image: str | None = None
    parallelism: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def place(self, task: PipelineTask, name: str, *, cached: bool = True) -> PipelineTask:
        """Sets the task's display name, image, environment and whether it may be reused."""
        task.set_display_name(name)
        task.set_caching_options(cached)
        if self.image:
            task.set_container_image(self.image)
        for variable, value in sorted(self.environment.items()):
            task.set_env_variable(variable, value)
        return task
