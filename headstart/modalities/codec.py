"""Codecs: a smaller form of stored samples, for data sets that are too large as arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Codec:
    """`name` is that of the recipe's `data.store` and `suffix` that of its files. `encode` takes a stored array;
    `decode` writes the array of some bytes into an array of the expected shape, and raises whatever its decoder does
    where they are damaged."""

    name: str
    suffix: str
    encode: "Callable[[np.ndarray], bytes]"
    decode: "Callable[[bytes, np.ndarray], None]"
