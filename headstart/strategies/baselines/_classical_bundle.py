"""A fitted model of scikit-learn, as tensors, in a bundle of its own."""

from headstart.data.dataset import Dataset
from headstart.models.bundle import ModelBundle, versions
from headstart.models.network import Network
from headstart.strategies.task import answer_as
from headstart.training.context import RunContext


def classical_bundle(
    architecture: str, network: Network, dataset: Dataset, context: RunContext, *, temperature: float = 1.0
) -> ModelBundle:
    """The bundle of the baseline `classical` for the samples and the task of `dataset`."""
    answer_as(network, dataset)
    provenance = {"role": "baseline", "strategy": "classical", "source": None, "head": "trained", "seed": context.seed}
    return ModelBundle(
        network,
        architecture,
        dataset.modality,
        dataset.kind.plain(dataset.given),
        dataset.classes,
        temperature,
        {**dataset.digests, **provenance, "versions": versions()},
        task=dataset.task,
    )
