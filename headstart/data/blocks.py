"""Which samples of a split lie in one block, so that they are best read one soon after the other."""

from typing import Any

import numpy as np

from headstart.data.chosen import ChosenSamples
from headstart.data.joined import JoinedSamples
from headstart.data.streamed import Streamed

# Samples that lie on this machine's disk, beside others that do not, are as if in blocks of so many.
_AS_IF = 1024


def blocks_of(samples: Any) -> np.ndarray | None:
    """The number of the block in which each sample lies, int64 (N,), counted from 0; None where no blocks are read."""
    if isinstance(samples, ChosenSamples):
        found = blocks_of(samples.samples)
        return None if found is None else found[samples.rows]
    if isinstance(samples, JoinedSamples):
        return _joined(samples)
    streamed = _streamed(samples)
    return None if streamed is None else streamed.of(np.arange(len(samples)))


def request_blocks(samples: Any, rows: np.ndarray) -> None:
    """Begin to read the blocks in which the samples at positions `rows`, int (n,), lie, in this order; nothing happens
    where no blocks are read."""
    if isinstance(samples, ChosenSamples):
        request_blocks(samples.samples, samples.rows[rows])
    elif isinstance(samples, JoinedSamples):
        part_of = samples.part_of(rows)
        for number, part in enumerate(samples.parts):
            request_blocks(part, rows[part_of == number] - samples.starts[number])
    elif (streamed := _streamed(samples)) is not None:
        streamed.request(rows)


def _streamed(samples: Any) -> Streamed | None:
    found = getattr(samples, "blocks", None)
    return found if isinstance(found, Streamed) else None


def _joined(samples: JoinedSamples) -> np.ndarray | None:
    parts = [(len(part), blocks_of(part)) for part in samples.parts]
    if all(found is None for _, found in parts):
        return None
    numbers, first = [], 0
    for count, found in parts:
        mine = np.arange(count) // _AS_IF if found is None else found
        numbers.append(mine + first)
        first += int(mine.max(initial=-1)) + 1
    return np.concatenate(numbers)
