"""Interpolation between the weights before fine-tuning and those after it (WiSE-FT)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.dataset import Dataset, Split
from headstart.metrics.metric import METRICS
from headstart.metrics.tally import score
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle
from headstart.models.network import batch_norms
from headstart.training.losses import held_out_loss

# The ends and what lies between; Wortsman et al. find the middle a good choice without any validation.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BATCH = 256


def interpolate(
    bundle: ModelBundle, before: Mapping[str, Tensor], dataset: Dataset, share: float | str, *, metric: str
) -> float:
    """Set the weights of `bundle.network` to (1 − α) w_before + α w, and return α.

    WiSE-FT, Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: along this line lie models that keep
    what the source knew and what fine-tuning added, at no cost when they predict. α is `share`, or of 0, ¼, ½, ¾ and 1
    the one with the highest `metric` on the validation split, then the lowest loss there, then the shortest way from
    the start. α = 0 gives the start and α = 1 what was fine-tuned, to the bit. Between them, where batch norms have
    not kept their statistics, those of stages that trained are taken anew from the training samples, since statistics
    do not mix as weights do (Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI
    2018).

    Args:
        before: the state dict before fine-tuning, with the head that fine-tuning started from.
    """
    after = {name: value.detach().clone() for name, value in bundle.network.state_dict().items()}
    val = dataset.split("val")
    if isinstance(share, str):
        ranks = []
        for alpha in _SHARES:
            _set(bundle, before, after, alpha, dataset.split("train"))
            logits = bundle.predict_logits(val.samples)
            reached = score(metric, val.labels, bundle.kind.predicted(logits), len(bundle.classes))
            loss = held_out_loss(logits, val.labels, bundle.network)
            ranks.append((METRICS[metric].merit(reached), -loss, -alpha))
        share = _SHARES[ranks.index(max(ranks))]
    _set(bundle, before, after, share, dataset.split("train"))
    return share


def refresh_batch_norm(bundle: ModelBundle, train: Split) -> None:
    """Set the running mean and variance of batch norms in stages that train to those of the training samples, without
    augmentation. A network without such norms stays as it is."""
    network = bundle.network
    trained = [stage for stage in network.stages if any(p.requires_grad for p in stage.parameters())]
    norms = batch_norms(nn.ModuleList(trained))
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    device = network.head.weight.device
    with torch.inference_mode():
        for chosen in np.array_split(np.arange(len(train.labels)), -(-len(train.labels) // _BATCH)):
            batch = modality(bundle.modality).batch(train.samples[chosen]).to(device)
            network.features(bundle.preprocessing(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _set(
    bundle: ModelBundle, before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float, train: Split
) -> None:
    mixed = {
        name: torch.lerp(before[name].to(value.device), value, alpha) if value.is_floating_point() else value
        for name, value in after.items()
    }
    ends: dict[float, Mapping[str, Tensor]] = {0.0: before, 1.0: after}
    bundle.network.load_state_dict(ends.get(alpha, mixed))
    bundle.network.eval()
    if alpha not in ends and not bundle.network.keeps_statistics:
        refresh_batch_norm(bundle, train)
