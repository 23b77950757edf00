"""Low-rank adaptation (LoRA) of a network whose weights are linear layers."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from headstart.errors import InputError
from headstart.models.network import Network


class LowRank(nn.Module):
    """W ↦ W + B A: what is added to a weight (rows, columns) has rank `rank`.

    `blocks` cuts the rows: queries, keys and values that lie in one matrix are three matrices, each with a B A of its
    own. A is drawn at random and B starts at 0, so that the adapted network starts as the network that it adapts.
    """

    def __init__(self, weight: Tensor, rank: int, blocks: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        down = torch.empty(blocks, rank, columns)
        # As the layers themselves are drawn: uniform with variance 1 / (3 columns).
        down.uniform_(-1 / math.sqrt(columns), 1 / math.sqrt(columns), generator=generator)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(blocks, rows // blocks, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def add_lora(network: Network, rank: int, *, architecture: str, seed: int) -> None:
    """Freeze the stages and add to each of their linear layers' weights W a trained B A of rank `rank`; the head
    trains as it is.

    h = W x + B A x with W (d, k) frozen, B (d, r) and A (r, k): LoRA, Hu et al., "LoRA: low-rank adaptation of large
    language models", ICLR 2022, equation 3, with α = r. On all linear layers, as in QLoRA (Dettmers et al., NeurIPS
    2023), where the attention's alone did not reach full fine-tuning.

    Raises:
        InputError: less than half of the stages' weights, embeddings left out, are in linear layers, as in a
            convolutional network.
    """
    places = _linear_weights(network)
    held = sum(module.get_parameter(name).numel() for module, name, _ in places)
    # Tables of embeddings, half of a small encoder of texts, are looked up and stay frozen.
    tables = [module for module in network.stages.modules() if isinstance(module, nn.Embedding)]
    others = sum(each.numel() for each in network.stages.parameters()) - sum(each.weight.numel() for each in tables)
    if 2 * held < others:
        raise InputError(
            f"lora adds to linear layers, and most of {architecture}'s weights are in others; use freeze or surgical, "
            "or a vision transformer such as vit_b_16 as the source."
        )
    generator = torch.Generator().manual_seed(seed)
    network.stages.requires_grad_(False)
    for module, name, blocks in places:
        parametrize.register_parametrization(module, name, LowRank(module.get_parameter(name), rank, blocks, generator))


def merge_lora(network: Network) -> None:
    """Make each W + B A a plain weight again, so that the network has the parameters of its architecture."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name, changes in list(module.parametrizations.items()):  # type: ignore[operator, union-attr]
                # A network may have others of its own.
                if not isinstance(changes[-1], LowRank):
                    continue
                parametrize.remove_parametrizations(module, name)


def _linear_weights(network: Network) -> list[tuple[nn.Module, str, int]]:
    """The stages' linear layers: the module, its parameter's name, and how many matrices that parameter holds."""
    places: list[tuple[nn.Module, str, int]] = []
    for path, module in network.stages.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            places.append((module, "in_proj_weight", 3))
        elif isinstance(module, nn.Linear):
            # timm's name for queries, keys and values in one layer.
            places.append((module, "weight", 3 if path.endswith(".qkv") else 1))
    return places
