"""`transformer_small`: a pre-norm encoder of token ids with four layers of width 256 (3.2 M parameters and 256 for each
token of the vocabulary)."""

from headstart.models.architectures import TOKENS, Architecture
from headstart.models.network import Network
from headstart.models.token_encoder import Shape, token_encoder


def transformer_small(*, classes: int, channels: int) -> Network:
    """Five stages: the embedding of a vocabulary of `channels` tokens, and four layers."""
    return token_encoder(Shape(width=256, layers=4, heads=4, hidden=1024), classes=classes, vocabulary=channels)


ARCHITECTURE = Architecture(transformer_small, reads=TOKENS)
