"""The pipeline `pretrain`: prepare_data(source) → pretrain → register(source)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.pretrain.component import pretrain as pretrain_step
from headstart_components.register.component import register
from headstart_pipelines.exit_handler import closed_record
from headstart_pipelines.placement import Placement
from headstart_pipelines.preparation import add_preparation


@dataclass(frozen=True)
class Pretrained:
    """Outputs of the steps that make a source: its bundle, with the evidence for it, and the registered version."""

    model: Any
    version: Any


def add_pretraining(placement: Placement, parameters: Mapping[str, Any]) -> Pretrained:
    """Adds the steps to the pipeline that is being built; `parameters` are that pipeline's by their names.

    Only `version` waits for the registry.
    """
    shared = {"experiment": parameters["name"], "seed": parameters["seed"]}
    data, pretraining = parameters["source_data"], parameters["source_pretraining"]
    modality = parameters["modality"]
    prepared = add_preparation(placement, "source", data=data, modality=modality, **shared)
    trained = pretrain_step(pretraining=pretraining, dataset=prepared.outputs["dataset"], **shared)
    placement.place(trained, "pretrain")
    model = trained.outputs["model"]
    registered = register(
        model=model, source_data=data, source_pretraining=pretraining, role="source", modality=modality, **shared
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
        # By their names.
        parameters = dict(locals())
        with closed_record(placement, name):
            add_pretraining(placement, parameters)

    return pretrain
