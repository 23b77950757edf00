"""Training without labels on texts: a network guesses tokens that are hidden from it, by those around them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.modalities.batch import Batch
from headstart.modalities.tokens import TokenPreprocessing
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.models.token_encoder import embedding_of, is_token_encoder, token_states
from headstart.training.context import RunContext
from headstart.training.distributed import current_group
from headstart.training.draws import uniforms
from headstart.training.engine import training_device
from headstart.training.loader import Loader
from headstart.training.plan import Plan
from headstart.training.trained import Trained
from headstart.training.unlabelled import Unlabelled, pretrain


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden: `share` of them is to be guessed. Of these, `masked` become the mask's token and `random`
    another one; the rest stays as it is, since a target's texts have no masks (Devlin et al. 2019, section 3.1)."""

    share: float = 0.15
    masked: float = 0.8
    random: float = 0.1

    def hidden(self, ids: Tensor, guessed: Tensor, how: Tensor, mask_id: int, vocabulary: int) -> Tensor:
        """The ids that a network reads, int64 (N, L), where those that are `guessed`, bool (N, L), are hidden as the
        draws `how`, float32 (N, L) in [0, 1), say."""
        # What is left of a draw above the share of masks is a number in [0, 1) again.
        other = ((how - self.masked) / self.random * vocabulary).long().clamp(0, vocabulary - 1)
        ids = torch.where(guessed & (how < self.masked), mask_id, ids)
        return torch.where(guessed & (how >= self.masked) & (how < self.masked + self.random), other, ids)


def fit_masked_tokens(
    bundle: ModelBundle, dataset: Dataset, plan: Plan, context: RunContext, masking: Masking
) -> Trained:
    """Train the stages of `bundle.network` in place to guess hidden tokens; the head stays as it is.

    Raises:
        InputError: the network reads no tokens, its tokenizer has none that stands for a hidden one, or the training or
            the validation split is empty.
        HeadstartError: the loss is no longer a finite number.
    """
    reads = bundle.preprocessing
    if not isinstance(reads, TokenPreprocessing) or not is_token_encoder(bundle.network):
        raise InputError(
            f"mlm hides tokens of texts and sequences, and {bundle.architecture} reads none; choose vicreg, or for "
            "texts transformer_tiny."
        )
    if reads.mask_id is None:
        raise InputError(
            "mlm needs a token that stands for a hidden one, which tokenizers without a mask and k-mers that overlap "
            "do not have; choose vicreg, or of sequences input: {overlap: false}."
        )
    for split in ("train", "val"):
        if not dataset.counts[split]:
            raise InputError(
                f"{dataset.manifest['source']['uri']} gives the {split} split no texts; add some or raise "
                f"data.split.{split}."
            )
    return pretrain(
        lambda: _MaskedTokens(bundle, dataset, plan, context.seed, reads, masking),
        bundle,
        dataset,
        plan,
        context,
        name="mlm",
    )


class _Guesser(nn.Module):
    """The stages, and what makes scores of all tokens of a state: a layer, and the embedding of the tokens, which both
    share (Press and Wolf 2017, "Using the output embedding to improve language models")."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stages, width = network.stages, network.feature_dim
        self.layer = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(embedding_of(network).num_embeddings))

    def scores(self, network: Network, states: Tensor) -> Tensor:
        """States (M, width) to float32 (M, tokens)."""
        return F.linear(self.layer(states), embedding_of(network).weight, self.bias).float()


class _MaskedTokens(Unlabelled):
    """The cross-entropy of hidden tokens: of each text their mean, of a batch the mean over its texts."""

    module: _Guesser

    def __init__(
        self, bundle: ModelBundle, dataset: Dataset, plan: Plan, seed: int, reads: TokenPreprocessing, masking: Masking
    ) -> None:
        super().__init__(bundle.network, _Guesser(bundle.network).to(training_device()), dataset, plan, seed)
        self.reads, self.masking, self._mask_id = reads, masking, reads.mask_id or 0
        self._special = torch.tensor([*reads.special_ids, self._mask_id], device=self.device)

    def example(self, batch: np.ndarray) -> Batch:
        return self.reads.example(-(-len(batch) // (current_group().size * self.plan.accumulate))).to(self.device)

    def loss(self, piece: np.ndarray, batch: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        total = self._losses(self._train, piece, epoch).sum()
        return total / len(batch), total.detach()

    def _losses(self, loader: Loader, positions: np.ndarray, epoch: int) -> Tensor:
        """The loss of each text, float32 (N,)."""
        batch = self.reads(loader.read(positions, epoch))
        # Letters that are too few for another k-mer are padding beyond the last token.
        ids, mask = (batch.tensors[name][:, : self.reads.length] for name in ("ids", "mask"))
        # Two numbers for each token that a text may have, so that what is hidden does not depend on the padding.
        draws = torch.from_numpy(uniforms(self.seed, epoch, positions, 2 * self.reads.length)).to(self.device)
        which, how = (each[:, : ids.shape[1]] for each in draws.chunk(2, dim=1))
        guessed = mask & (which < self.masking.share) & ~torch.isin(ids, self._special)
        hidden = self.masking.hidden(ids, guessed, how, self._mask_id, self.reads.channels)
        with self.speed.autocast(self.device):
            states = token_states(self.network, Batch({"ids": hidden, "mask": mask}))
            guessed = guessed[:, : states.shape[1]]
            scores = self.module.scores(self.network, states[guessed])
        losses = F.cross_entropy(scores, ids[:, : states.shape[1]][guessed], reduction="none")
        rows = guessed.nonzero()[:, 0]
        sums = torch.zeros(len(positions), device=self.device).index_add(0, rows, losses)
        return sums / guessed.sum(dim=1).clamp(min=1)

    def validated(self, loader: Loader, positions: np.ndarray) -> float:
        return float(self._losses(loader, positions, epoch=0).sum())
