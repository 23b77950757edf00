"""`transformer?layers=6&width=384&…`: an encoder of token ids with the sizes that its name gives; published ones have
such names. Its settings are those of headstart/models/token_encoder.py."""

from typing import Any

from headstart.models.architectures import TOKENS, Architecture
from headstart.models.network import Network
from headstart.models.token_encoder import Shape, token_encoder


def transformer(*, classes: int, channels: int, **settings: Any) -> Network:
    """An encoder of a vocabulary of `channels` tokens. ValueError or TypeError for settings that it cannot have."""
    return token_encoder(Shape(**settings), classes=classes, vocabulary=channels)


ARCHITECTURE = Architecture(transformer, reads=TOKENS, settings=True)
