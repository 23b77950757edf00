"""Which parts of a text or sequence a prediction rests on, token by token."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from headstart.modalities import modality
from headstart.modalities.batch import Batch
from headstart.modalities.tokens import TokenPreprocessing
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.models.token_encoder import embedding_of, is_token_encoder

_STEPS = 16


def can_be_explained(bundle: ModelBundle) -> bool:
    """Whether the network embeds tokens of which each stands for a part of the sample."""
    return isinstance(bundle.preprocessing, TokenPreprocessing) and is_token_encoder(bundle.network)


def token_maps(bundle: ModelBundle, samples: Sequence[np.ndarray], classes: np.ndarray) -> list[np.ndarray]:
    """How much each value of stored samples, (L,) each, speaks for the predictions `classes`, int (N,), by
    `integrated_gradients`; below 0 what speaks against them. A value has the mean of the tokens that stand for it."""
    reads = bundle.preprocessing
    assert isinstance(reads, TokenPreprocessing)  # noqa: S101 (the caller asked)
    device = next(bundle.network.parameters()).device
    batch = reads(modality(bundle.modality).batch(samples).to(device))
    found = integrated_gradients(bundle.network, batch, torch.from_numpy(np.asarray(classes)).to(device)).cpu().numpy()
    maps = []
    for sample, tokens in zip(samples, found, strict=True):
        spans = reads.spans(sample)
        sums, counts = np.zeros(len(sample)), np.zeros(len(sample))
        for (start, end), value in zip(spans.tolist(), tokens[: len(spans)].tolist(), strict=True):
            sums[start:end] += value
            counts[start:end] += 1
        maps.append(sums / np.maximum(counts, 1))
    return maps


def integrated_gradients(network: Network, batch: Batch, targets: Tensor) -> Tensor:
    """(N, L): Σ_d e_d ∫ ∂logit(t e) / ∂e_d dt over the path from no embeddings to those of the tokens, e, in 16 steps
    (Sundararajan, Taly and Yan 2017); 0 at padding."""
    network.eval()
    embedded: list[Tensor] = []
    total: Tensor | float = 0.0
    for step in range(_STEPS):
        share = (step + 0.5) / _STEPS

        def part(_module: nn.Module, _given: tuple[Tensor, ...], output: Tensor, share: float = share) -> Tensor:
            embedded[:] = [output.detach(), (share * output.detach()).requires_grad_()]
            return embedded[1]

        hook = embedding_of(network).register_forward_hook(part)
        try:
            logits = network(batch)
        finally:
            hook.remove()
        total = total + torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), embedded[1])[0]
    found: Tensor = (embedded[0] * total / _STEPS).sum(dim=2)
    return found * batch.tensors["mask"][:, : found.shape[1]]
