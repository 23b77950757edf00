"""A compiled package as a local run reads it: components, their tasks, and what is given to them.

Source: pipeline_spec.proto of Kubeflow Pipelines 2. A kind of task or input that a local run does not know is refused
before anything runs.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from headstart.errors import InputError
from headstart_pipelines.documents import read_documents

Values = Mapping[str, Any]

# What components/__init__.py puts into a package: the source is one import of the component's function.
_SOURCE = re.compile(r"from ([\w.]+) import (\w+)\n?")


@dataclass(frozen=True)
class Task:
    """One task of a graph: `key` in the graph, `name` as people see it."""

    key: str
    spec: Values

    @property
    def name(self) -> str:
        return str(self.spec.get("taskInfo", {}).get("name") or self.key)

    @property
    def component(self) -> str:
        return str(self.spec["componentRef"]["name"])

    @property
    def after(self) -> tuple[str, ...]:
        return tuple(self.spec.get("dependentTasks", ()))

    @property
    def is_exit(self) -> bool:
        """Whether it runs whatever became of what is before it."""
        return self.spec.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"

    @property
    def condition(self) -> str:
        return str(self.spec.get("triggerPolicy", {}).get("condition", ""))

    @property
    def is_cached(self) -> bool:
        return bool(self.spec.get("cachingOptions", {}).get("enableCache"))


class Package:
    """A compiled pipeline."""

    def __init__(self, spec: Values) -> None:
        self._spec = spec
        for name, component in self._spec.get("components", {}).items():
            if "dag" not in component and "executorLabel" not in component:
                raise InputError(f"The package's component {name} is neither a graph nor a container.")
            if "executorLabel" in component:
                self.container(component)
        for task in self.tasks:
            if "artifactIterator" in task.spec:
                raise InputError(f"The package's task {task.key} is a loop over artifacts, which no local run does.")

    @classmethod
    def load(cls, path: Path) -> "Package":
        """The package in a YAML file; what it says to a platform is left out.

        Raises:
            InputError: it is no compiled package, or has what no local run does.
        """
        try:
            documents = read_documents(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{path} is no compiled pipeline ({error}); compile it anew.") from None
        if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
            raise InputError(f"{path} is no compiled pipeline: it has no root; compile it anew.")
        return cls(documents[0])

    @property
    def name(self) -> str:
        return str(self._spec["pipelineInfo"]["name"])

    @property
    def root(self) -> Values:
        return self._spec["root"]

    def component(self, task: Task) -> Values:
        """The component that a task runs."""
        return self._spec["components"][task.component]

    def container(self, component: Values) -> Values:
        """The container of a component that is no graph: image, command, arguments, environment.

        Raises:
            InputError: it is an importer or the like, which no local run does.
        """
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "container" not in executor:
            raise InputError(
                f"The package's step {component['executorLabel']} is a {', '.join(executor)}, which no local run does."
            )
        return executor["container"]

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks at any depth."""
        return tuple(self._tasks(self.root))

    @property
    def steps(self) -> tuple[Task, ...]:
        """The tasks that are no graphs, at any depth."""
        return tuple(task for task in self.tasks if "dag" not in self.component(task))

    def _tasks(self, component: Values) -> Iterator[Task]:
        for key, spec in component.get("dag", {}).get("tasks", {}).items():
            task = Task(key, spec)
            yield task
            yield from self._tasks(self.component(task))


def function_of(container: Values) -> tuple[str, str]:
    """The module and the name of the function that a container runs.

    Raises:
        InputError: its source is not the import of a function.
    """
    found = _SOURCE.fullmatch(container.get("command", [""])[-1])
    if not found:
        raise InputError(
            "A step of the package carries its source, which a local run without containers does not run; write it "
            "as a component of headstart_components, which is imported."
        )
    return found[1], found[2]


def threads_of(package: Package, cores: int, at_once: int, light: frozenset[str]) -> dict[str, int]:
    """The number of threads of each component's step: all cores where the package lets nothing but `light` components
    run beside it, otherwise its part of them."""
    shared = max(1, cores // at_once)
    alone = _without_peers(package, light)
    return {task.component: cores if task.component in alone else shared for task in package.tasks}


def _is_light(task: Task, light: frozenset[str]) -> bool:
    # The compiler appends a number to a component that occurs again.
    return re.sub(r"-\d+$", "", task.component.removeprefix("comp-")) in light


def _without_peers(package: Package, light: frozenset[str]) -> set[str]:
    """The components of steps that no step of weight runs beside."""
    steps: dict[tuple[str, ...], Task] = {}
    before: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    looped: set[tuple[str, ...]] = set()

    def visit(component: Values, place: tuple[str, ...], inherited: set[tuple[str, ...]], in_loop: bool) -> None:
        tasks = {key: Task(key, spec) for key, spec in component["dag"]["tasks"].items()}
        reached: dict[str, set[str]] = {}

        def ancestors(key: str) -> set[str]:
            if key not in reached:
                direct = {name for name in tasks[key].after if name in tasks}
                reached[key] = direct.union(*map(ancestors, direct)) if direct else set()
            return reached[key]

        for key, task in tasks.items():
            own = (*place, key)
            earlier = inherited | {(*place, name) for name in ancestors(key)}
            inner = package.component(task)
            loops = in_loop or "parameterIterator" in task.spec
            if "dag" in inner:
                visit(inner, own, earlier, loops)
            else:
                steps[own], before[own] = task, earlier
                if loops:
                    looped.add(own)

    visit(package.root, (), set(), False)

    def precedes(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
        return any(one[: len(place)] == place for place in before[other])

    heavy = [place for place, task in steps.items() if not _is_light(task, light)]
    return {
        task.component
        for one, task in steps.items()
        if one not in looped and all(one == other or precedes(one, other) or precedes(other, one) for other in heavy)
    }
