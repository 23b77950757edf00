"""Streaming: the samples of a data set go to the state in blocks, and its directory keeps the rest."""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from headstart.data.dataset import SPLITS, STREAMED, Dataset
from headstart.data.parallel import in_order, processors
from headstart.data.samples import Readable
from headstart.data.section import Data, Stream
from headstart.data.shards import array_of
from headstart.data.shelf import FOLDER, Shelf
from headstart.data.streamed import block_writers
from headstart.environment import bytes_given
from headstart.storage.blocks import forget_blocks
from headstart.storage.state import State

if TYPE_CHECKING:
    from headstart.data.packing import Selection

LIMIT_VARIABLE = "HEADSTART_STORE_LIMIT"
"""The environment's name for the bytes of a store that steps may copy to their disk."""

_DEFAULT_LIMIT = 100 * 2**30

AT_ONCE = 4 * 2**30
"""Bytes of arrays that are on the disk while they become blocks."""

# Samples that tell how large all of them are in the form of a codec.
_MEASURED = 64


def store_limit() -> int:
    """Return the bytes of a store that steps may copy to their disk.

    Raises:
        InputError: HEADSTART_STORE_LIMIT is not a number.
    """
    given = bytes_given(LIMIT_VARIABLE, such_as=100_000_000_000)
    return _DEFAULT_LIMIT if given is None else given


def state_to_stream_from(data: Data) -> State | None:
    """Return the state whose blocks would hold the samples; None where they are not streamed, whatever they take.

    Raises:
        InputError: `data.stream` is `always`, and there is no state.
    """
    if data.stream == "never":
        return None
    if data.stream == "always":
        return State.required("stream a store")
    state = State.from_environment()
    return state if state is not None and state.is_remote else None


def arrays_at_once(data: Data) -> int:
    """Return the bytes of arrays that may lie on the disk of a step which may stream them."""
    return AT_ONCE if data.stream == "always" else store_limit()


def streamed_where_asked(
    packed: Dataset, selection: "Selection", shelf: Shelf, stream: Stream, state: State | None
) -> Dataset:
    """Return a data set that so far is its manifest, which says that the samples lie in the state where `stream` asks
    for it; `auto` does where they take more than steps may copy to their disk."""
    if state is None or (stream == "auto" and _stored_bytes(packed, selection, shelf) <= store_limit()):
        return packed
    return Dataset(packed.path, {**packed.manifest, STREAMED: {"state": state.location, "splits": list(SPLITS)}})


def write_in_blocks(packed: Dataset, selection: "Selection", shelf: Shelf) -> tuple[np.ndarray, int]:
    """Write the samples of a data set to the state that its manifest names, in blocks, and the lists of these to its
    directory; return the order of all samples in the index, int (N,), and the bytes of the blocks.

    The samples of a split lie in the order of their digests, of large data within groups of shards whose arrays fit on
    the disk together. A group is shards from everywhere in the listing, so that its blocks, too, are a random part of
    the split.
    """
    state = State(packed.manifest[STREAMED]["state"])
    forget_blocks(state)
    # Those that other preparations have left there for want of room.
    state.forget(f"{FOLDER}/")
    samples = selection.samples
    group_of, groups = _groups(samples, np.dtype(packed.kind.dtype).itemsize)
    order, size = np.lexsort((samples.contents, group_of)), 0
    paths = [packed.path / packed.samples_file(split) for split in SPLITS]
    with block_writers(paths, state) as writers, ThreadPoolExecutor(processors()) as pool:
        for number, shards in enumerate(groups):
            mine = order[group_of[order] == number]
            with shelf.brought(samples.shards.values[shard] for shard in shards):
                for split, writer in zip(SPLITS, writers, strict=True):
                    rows = mine[selection.is_in(split)[mine]]
                    writer.extend(_contents(packed, samples, rows.tolist(), shelf, pool))
        size = sum(writer.bytes for writer in writers)
    # The index has a split's samples in their order, at the places where the split has one.
    rows = np.arange(len(samples))
    for split in SPLITS:
        chosen = selection.is_in(split)
        rows[chosen] = order[chosen[order]]
    return rows, size


def _stored_bytes(packed: Dataset, selection: "Selection", shelf: Shelf) -> int:
    """Return how many bytes the samples take in the form in which a data set keeps them, by some of them."""
    rows = np.flatnonzero(selection.split_of < len(SPLITS))
    measured = rows[np.unique(np.linspace(0, len(rows) - 1, _MEASURED).astype(np.int64))] if len(rows) else rows
    with ThreadPoolExecutor(processors()) as pool:
        sizes = [len(each) for each in _contents(packed, selection.samples, measured.tolist(), shelf, pool)]
    return round(len(rows) * sum(sizes) / max(1, len(sizes)))


def _contents(
    packed: Dataset, samples: Readable, rows: Iterable[int], shelf: Shelf, pool: ThreadPoolExecutor
) -> Iterator[bytes]:
    """The samples at some positions as the data set keeps each."""
    kind, shape, codec = packed.kind, packed.shape, packed.kind.codec
    arrays = (kind.fitted(array_of(samples[row], kind, shelf), shape) for row in rows)
    if packed.store != "raw" and codec is not None:
        return in_order(pool, codec.encode, arrays, ahead=4 * processors())
    return (np.ascontiguousarray(values, kind.dtype).tobytes() for values in arrays)


def _groups(samples: Readable, itemsize: int) -> tuple[np.ndarray, list[list[int]]]:
    """The number of the group in which each sample is, int (N,), and the shards of each group: in an order that a hash
    decides, as many as may be on the disk at once."""
    shards, first = np.unique(samples.shards.codes, return_index=True)
    names = [sha256(samples.files.paths[row].encode()).digest() for row in first.tolist()]
    order = sorted(range(len(shards)), key=names.__getitem__)
    # Of each sample the values, and of each shard the bytes that its samples take.
    values = np.array([math.prod(shape) for shape in samples.shapes.values], dtype=np.int64)[samples.shapes.codes]
    sizes = itemsize * np.bincount(samples.shards.codes, values, minlength=len(samples.shards.values))[shards]
    group, ends = np.empty(len(shards), dtype=np.int64), np.cumsum(sizes[order])
    group[order] = (ends - sizes[order]) // AT_ONCE
    of_shard = np.zeros(len(samples.shards.values), dtype=np.int64)
    of_shard[shards] = group
    groups = [shards[group == number].tolist() for number in range(int(group.max(initial=-1)) + 1)]
    return of_shard[samples.shards.codes], groups
