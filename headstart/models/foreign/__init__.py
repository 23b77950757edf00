"""Models from elsewhere: each kind becomes a bundle, and keeps its own forward pass to be compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from headstart.modalities import modality
from headstart.modalities.preprocessing import Preprocessing
from headstart.models.bundle import ModelBundle, versions
from headstart.models.network import Network
from headstart.models.reference import pinned


@dataclass
class Original:
    """A model as its own library built and filled it.

    `network` makes stages and a head of it, after which its own forward pass must not be used any more; `call` is that
    pass, from preprocessed inputs to logits (N, classes), or to features where `head` is False.
    """

    architecture: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    network: Callable[[], Network]
    call: Callable[[Any], Tensor]
    head: bool
    """whether it has a trained one"""
    name: str
    modality: str = "image"
    temperature: float = 1.0
    left_out: tuple[str, ...] = ()
    """names of tensors, or beginnings of such, that are not used"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what its card tells: licence, revision, accuracy"""

    def bundle(self, uri: str, digest: str) -> ModelBundle:
        """Return the bundle of the model, in eval mode; the random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            network = self.network().eval()
        return ModelBundle(
            network=network,
            architecture=self.architecture,
            modality=self.modality,
            preprocessing=self.preprocessing,
            classes=self.classes,
            temperature=self.temperature,
            provenance={
                "role": "source",
                "name": self.name,
                "strategy": None,
                "data_digest": None,
                "source": pinned(uri, digest),
                "source_digest": digest,
                "seed": None,
                "versions": versions(),
                "head": "trained" if self.head else "none",
                "left_out": list(self.left_out),
                **self.facts,
            },
        )

    def outputs(self, samples: Any) -> Tensor:
        """Return what `call` gives for stored samples, such as `preprocessing.noise`."""
        with torch.inference_mode():
            return self.call(self.preprocessing(modality(self.modality).batch(samples)))
