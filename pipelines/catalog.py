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
    # KFP knows no null: what the recipe leaves open is absent.
    values = recipe.model_dump(mode="json", exclude_none=True)
    arguments = {key: values[key] for key in ("name", "modality", "seed")}
    if recipe.source.data:
        arguments |= {
            "source_data": values["source"]["data"],
            "source_pretraining": values["source"]["pretraining"],
        }
    if recipe.target:
        arguments |= {
            "source_candidates": values["source"]["candidates"],
            "target_data": values["target"]["data"],
            **{key: values[key] for key in ("training", "strategies", "baselines", "evaluation")},
        }
    return arguments


def compile_pipeline(name: str, output: Path, placement: Placement) -> None:
    """Writes the compiled pipeline `name` to a YAML file."""
    compiler.Compiler().compile(PIPELINES[name](placement), str(output))
