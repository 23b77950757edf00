"""The pipeline `pretrain`: prepare_data(source) → pretrain → register(source)."""

from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.prepare_data.component import prepare_data
from headstart_components.pretrain.component import pretrain as pretrain_step
from headstart_components.register.component import register
from headstart_pipelines.placement import Placement
from headstart_pipelines.record import closed_record


@dataclass(frozen=True)
class Pretrained:
    """Outputs of the steps that make a source: its bundle, with the evidence for it, and the registered version."""

    model: Any
    version: Any


def add_pretraining(
    placement: Placement, *, name: Any, modality: Any, seed: Any, source_data: Any, source_pretraining: Any
) -> Pretrained:
    """Adds the steps to the pipeline that is being built; the arguments are its parameters.

    Only `version` waits for the registry.
    """
    prepared = prepare_data(experiment=name, modality=modality, role="source", data=source_data, seed=seed)
    placement.prepare(prepared, "source")
    trained = pretrain_step(
        experiment=name, pretraining=source_pretraining, seed=seed, dataset=prepared.outputs["dataset"]
    )
    placement.place(trained, "pretrain")
    model = trained.outputs["model"]
    registered = register(
        experiment=name,
        role="source",
        modality=modality,
        seed=seed,
        model=model,
        source_data=source_data,
        source_pretraining=source_pretraining,
    )
    # The registry is a service whose state no cache key knows; registering again is idempotent.
    placement.place(registered, "register source", cached=False)
    return Pretrained(model, registered.output)


def build_pretrain(placement: Placement) -> GraphComponent:
    """The pipeline, with its tasks placed."""

    @dsl.pipeline(name="pretrain", description="Trains a source model and registers it.")
    def pretrain(name: str, modality: str, seed: int, source_data: dict, source_pretraining: dict) -> None:
        """Trains a source model and registers it.

        Args:
            name: the experiment; the model is registered as <name>-source.
            modality: what the samples are.
            seed: of everything random.
            source_data: the recipe's source.data.
            source_pretraining: the recipe's source.pretraining.
        """
        with closed_record(placement, name):
            add_pretraining(
                placement,
                name=name,
                modality=modality,
                seed=seed,
                source_data=source_data,
                source_pretraining=source_pretraining,
            )

    return pretrain
