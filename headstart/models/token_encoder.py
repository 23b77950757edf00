"""Transformer encoders of token ids (Vaswani et al. 2017), bidirectional, as stages that end in one vector a text.

They serve small networks that are trained here and published ones of BERT's kind, whose weights fit by name: see
models/foreign/text.py.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.modalities.batch import Batch
from headstart.models.network import Network, linear_head

# Freezing and learning rates per stage need a handful of them, as networks for pictures have.
_STAGES = 4
_LARGEST = 16_384
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True)
class Shape:
    """The structure of an encoder.

    `hidden` is the width between the two layers of a feed-forward block. `positions` is the number of learned
    positions, beyond which tokens are not read; 0 takes sines and cosines for any number. `norm` says where layers
    normalise: before a block, `pre`, which trains stably without a warm-up (Xiong et al. 2020), or after its sum,
    `post`, as BERT. `pool` makes a vector of the tokens' states: their mean over the mask, the first one, or their
    maximum.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 512
    positions: int = 0
    norm: Literal["pre", "post"] = "pre"
    activation: str = "gelu"
    pool: Literal["mean", "first", "max"] = "mean"
    epsilon: float = 1e-5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.width, self.layers, self.heads, self.hidden)
        if (
            not all(isinstance(size, int) and 1 <= size <= _LARGEST for size in sizes)
            or not 0 <= self.positions < 2**20
        ):
            raise ValueError(f"width, layers, heads and hidden are whole numbers from 1 to {_LARGEST}")
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"a width of {self.width} is not even, or cannot be parted between {self.heads} heads")
        if self.norm not in ("pre", "post") or self.pool not in ("mean", "first", "max"):
            raise ValueError("norm is pre or post, and pool mean, first or max")
        if self.activation not in _ACTIVATIONS or not 0 <= self.dropout < 1 or not 0 < self.epsilon < 1:
            raise ValueError(f"the activation is one of {', '.join(_ACTIVATIONS)}, dropout and epsilon are below 1")


class TokenEmbedding(nn.Module):
    """`ids`, int64 (N, L), and `mask`, bool (N, L), to `states`, float32 (N, L, width), and `mask`."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)

    def forward(self, batch: Batch) -> Batch:
        return Batch({"states": self.tokens(batch.tensors["ids"]), "mask": batch.tensors["mask"]})


class Embedding(TokenEmbedding):
    """The same, with the tokens' positions."""

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__(vocabulary, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width) if shape.positions else None
        post = shape.norm == "post"
        self.norm: nn.Module = nn.LayerNorm(shape.width, shape.epsilon) if post else nn.Identity()
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, batch: Batch) -> Batch:
        ids, mask = batch.tensors["ids"], batch.tensors["mask"]
        if self.positions is not None:
            ids, mask = ids[:, : self.positions.num_embeddings], mask[:, : self.positions.num_embeddings]
        states = self.tokens(ids)
        places = torch.arange(ids.shape[1], device=ids.device)
        states = states + (waves(places, states.shape[2]) if self.positions is None else self.positions(places))
        return Batch({"states": self.dropout(self.norm(states)), "mask": mask})


class SelfAttention(nn.Module):
    """Attention of each token to all that are no padding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.drop = shape.heads, shape.dropout
        self.query, self.key, self.value, self.output = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            each(states).unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        drop = self.drop if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :], dropout_p=drop)
        output: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    """Two linear layers on each token's state."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.width)
        self.activation = _ACTIVATIONS[shape.activation]

    def forward(self, states: Tensor) -> Tensor:
        output: Tensor = self.down(self.activation(self.up(states)))
        return output


class Layer(nn.Module):
    """Attention and a feed-forward block, each with a shortcut and a layer norm: `states` and `mask` to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention, self.forward_block = SelfAttention(shape), FeedForward(shape)
        self.attention_norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.forward_norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.dropout, self.pre = nn.Dropout(shape.dropout), shape.norm == "pre"

    def forward(self, batch: Batch) -> Batch:
        states, mask = batch.tensors["states"], batch.tensors["mask"]
        if self.pre:
            states = states + self.dropout(self.attention(self.attention_norm(states), mask))
            states = states + self.dropout(self.forward_block(self.forward_norm(states)))
        else:
            states = self.attention_norm(states + self.dropout(self.attention(states, mask)))
            states = self.forward_norm(states + self.dropout(self.forward_block(states)))
        return Batch({"states": states, "mask": mask})


class LastNorm(nn.Module):
    """The layer norm after the last block of an encoder that normalises before blocks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.width, shape.epsilon)

    def forward(self, batch: Batch) -> Batch:
        return Batch({"states": self.norm(batch.tensors["states"]), "mask": batch.tensors["mask"]})


class Pool(nn.Module):
    """`states`, (N, L, width), and `mask` to (N, width)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, batch: Batch) -> Tensor:
        states, mask = batch.tensors["states"], batch.tensors["mask"].unsqueeze(2)
        if self.how == "first":
            return states[:, 0]
        if self.how == "max":
            return states.masked_fill(~mask, -torch.inf).amax(dim=1)
        return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def token_encoder(shape: Shape, *, classes: int, vocabulary: int) -> Network:
    """A randomly initialised encoder: the embedding, then up to four groups of layers, the last of which pools.

    Weights are normal with a deviation of 0.02, and those that add to a shortcut smaller with the depth (Radford et al.
    2019).
    """
    layers = [Layer(shape) for _ in range(shape.layers)]
    groups = min(_STAGES, shape.layers)
    bounds = [shape.layers * group // groups for group in range(groups + 1)]
    parts: list[list[nn.Module]] = [list(layers[low:high]) for low, high in itertools.pairwise(bounds)]
    parts[-1] += [LastNorm(shape), Pool(shape.pool)] if shape.norm == "pre" else [Pool(shape.pool)]
    stages = [nn.Sequential(Embedding(vocabulary, shape)), *(nn.Sequential(*part) for part in parts)]
    for module in nn.ModuleList(stages).modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    for layer in layers:
        for added in (layer.attention.output, layer.forward_block.down):
            nn.init.normal_(added.weight, std=0.02 / math.sqrt(2 * shape.layers))
    return Network(stages, linear_head(shape.width, classes), dropout=shape.dropout)


def is_token_encoder(network: Network) -> bool:
    """Whether a network embeds tokens, keeps a state of each, and pools them at its end."""
    first, last = network.stages[0], network.stages[-1]
    return (
        isinstance(first, nn.Sequential)
        and isinstance(first[0], TokenEmbedding)
        and isinstance(last, nn.Sequential)
        and isinstance(last[-1], Pool)
    )


def embedding_of(network: Network) -> nn.Embedding:
    """The embedding of the tokens of an encoder."""
    tokens: nn.Embedding = network.stages[0][0].tokens  # type: ignore[index]
    return tokens


def token_states(network: Network, batch: Batch) -> Tensor:
    """The states of all tokens before they are pooled, (N, L, width)."""
    for stage in network.stages[:-1]:
        batch = stage(batch)
    for part in list(network.stages[-1])[:-1]:  # type: ignore[call-overload]
        batch = part(batch)
    return batch.tensors["states"]


def waves(places: Tensor, width: int) -> Tensor:
    """The sines and cosines of positions (L,), float32 (L, width), of wavelengths from 2π to 10 000 · 2π, as large as
    embeddings are."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=places.device) * (-math.log(10_000.0) / width))
    angles = places[:, None].float() * frequencies
    return 0.02 * torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
