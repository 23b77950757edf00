"""`transformer_tiny`: a pre-norm encoder of token ids with two layers of width 128 (0.4 M parameters and 128 for each
token of the vocabulary), which trains on a CPU in a minute."""

from headstart.models.architectures import TOKENS, Architecture
from headstart.models.network import Network
from headstart.models.token_encoder import Shape, token_encoder


def transformer_tiny(*, classes: int, channels: int) -> Network:
    """Three stages: the embedding of a vocabulary of `channels` tokens, and two layers."""
    return token_encoder(Shape(width=128, layers=2, heads=4, hidden=512), classes=classes, vocabulary=channels)


ARCHITECTURE = Architecture(transformer_tiny, reads=TOKENS)
