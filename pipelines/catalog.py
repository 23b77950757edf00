"""The pipelines by name, and what a recipe gives them."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from headstart.recipe.recipe import Recipe
from headstart.storage.local import write_text
from headstart_pipelines.documents import read_documents
from headstart_pipelines.finetune import build_finetune
from headstart_pipelines.guards import refuse_unsafe
from headstart_pipelines.monitor import build_monitor
from headstart_pipelines.placement import Placement
from headstart_pipelines.pretrain import build_pretrain
from headstart_pipelines.survey import build_survey
from headstart_pipelines.transfer import build_transfer
from headstart_pipelines.trial import build_trial

PIPELINES: dict[str, Callable[[Placement], GraphComponent]] = {
    "pretrain": build_pretrain,
    "finetune": build_finetune,
    "transfer": build_transfer,
    "monitor": build_monitor,
    "survey": build_survey,
    "trial": build_trial,
}


@dataclass(frozen=True)
class Job:
    """What a cluster is to do: a pipeline by its name with its arguments, and the experiment that its runs are in."""

    experiment: str
    pipeline: str
    parameters: Mapping[str, Any]

    @classmethod
    def of(cls, recipe: Recipe) -> "Job":
        """A recipe's."""
        return cls(recipe.name, recipe.pipeline, parameters(recipe))


def parameters(recipe: Recipe) -> dict[str, Any]:
    """The arguments of the recipe's pipeline.

    Each is a leaf section of the recipe: what the KFP page shows is what the file says. Sections are passed one by one
    rather than as `source` and `target` because KFP's cache is keyed by parameter: an added candidate must not make
    the source train again.
    """
    return recipe.to_sections()


def compile_pipeline(name: str, output: Path, placement: Placement, *, allow_tag: bool = False) -> None:
    """Writes the compiled pipeline `name` to a YAML file, with the platform's settings as its second document.

    It is as short as it can be: Argo keeps most of it many times in the workflow of a run, whose size is limited.

    Raises:
        InputError: placed by a profile, it would be unsafe on a cluster; every problem is named.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[name](placement), str(draft))
        text = draft.read_text(encoding="utf-8")
    package, *platforms = read_documents(text)
    platform = _without_second_names(platforms[0]) if platforms else {}
    if placement.profile:
        refuse_unsafe(package, platform, allow_tag=allow_tag)
    # What KFP says of the pipeline's parameters to people.
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    documents = [package, platform] if platform else [package]
    write_text(output, head + yaml.safe_dump_all(documents, default_flow_style=None, width=1000))


def _without_second_names(settings: Any) -> Any:
    """A platform's settings without the names that KFP's compiler gives twice, as they are and as parameters.

    A server takes the plain name where there is no parameter.
    """
    if isinstance(settings, dict):
        plain = {key: value for key, value in settings.items() if not key.endswith("NameParameter")}
        return {key: _without_second_names(value) for key, value in plain.items()}
    return [_without_second_names(each) for each in settings] if isinstance(settings, list) else settings
