"""The pipelines by name, and what a recipe gives them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from headstart.config import Recipe
from pipelines.finetune import build_finetune
from pipelines.placement import Placement
from pipelines.pretrain import build_pretrain
from pipelines.transfer import build_transfer

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


def compile_pipeline(name: str, output: Path, placement: Placement) -> None:
    """Writes the compiled pipeline `name` to a YAML file."""
    compiler.Compiler().compile(PIPELINES[name](placement), str(output))
