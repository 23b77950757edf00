"""The pipelines by name, and what a recipe gives them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from headstart.config import Recipe
from headstart.storage.local import write_text
from headstart_pipelines.finetune import build_finetune
from headstart_pipelines.guards import refuse_unsafe
from headstart_pipelines.placement import Placement
from headstart_pipelines.pretrain import build_pretrain
from headstart_pipelines.transfer import build_transfer

PIPELINES: dict[str, Callable[[Placement], GraphComponent]] = {
    "pretrain": build_pretrain,
    "finetune": build_finetune,
    "transfer": build_transfer,
}


def parameters(recipe: Recipe) -> dict[str, Any]:
    """The arguments of the recipe's pipeline.

    Each is a leaf section of the recipe: what the KFP page shows is what the file says. Sections are passed one by one
    rather than as `source` and `target` because KFP's cache is keyed by parameter: an added candidate must not make
    the source train again.
    """
    return recipe.to_sections()


def compile_pipeline(name: str, output: Path, placement: Placement, *, allow_tag: bool = False) -> None:
    """Writes the compiled pipeline `name` to a YAML file, with the platform's settings as its second document.

    Raises:
        InputError: placed by a profile, it would be unsafe on a cluster; every problem is named.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[name](placement), str(draft))
        text = draft.read_text(encoding="utf-8")
    if placement.profile:
        package, *platforms = yaml.safe_load_all(text)
        refuse_unsafe(package, platforms[0] if platforms else {}, allow_tag=allow_tag)
    write_text(output, text)
