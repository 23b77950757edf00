"""Streaming: the samples of a packed data set go to the state in blocks, and its directory keeps the rest."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.dataset import SPLITS, STREAMED, Dataset
from headstart.data.section import Data
from headstart.data.streamed import write_streamed
from headstart.environment import bytes_given
from headstart.storage.blocks import forget_blocks
from headstart.storage.local import new_directory, sync
from headstart.storage.state import State

LIMIT_VARIABLE = "HEADSTART_STORE_LIMIT"
"""The environment's name for the bytes of a store that steps may copy to their disk."""

_DEFAULT_LIMIT = 100 * 2**30


def store_limit() -> int:
    """Return the bytes of a store that steps may copy to their disk.

    Raises:
        InputError: HEADSTART_STORE_LIMIT is not a number.
    """
    given = bytes_given(LIMIT_VARIABLE, such_as=100_000_000_000)
    return _DEFAULT_LIMIT if given is None else given


def streamed_where_asked(data: Data, packed: Dataset) -> Dataset:
    """The data set, streamed where `data.stream` says so; `auto` does where the state is in S3 and the samples take
    more than steps may copy to their disk.

    Raises:
        InputError: there is no state to stream from.
    """
    if data.stream == "never":
        return packed
    if data.stream == "always":
        return stream(packed, State.required("stream a store"))
    state = State.from_environment()
    if state is None or not state.is_remote or _size(packed) <= store_limit():
        return packed
    return stream(packed, state)


def stream(packed: Dataset, state: State) -> Dataset:
    """Move the samples of a data set to the state, in blocks, and return it; its directory is replaced at the end.

    The rows of the index are then in the order of the blocks.
    """
    forget_blocks(state)
    index = pq.read_table(packed.path / "index.parquet")
    split_of, ids = index["split"].to_numpy(zero_copy_only=False), index["id"].to_numpy(zero_copy_only=False)
    with new_directory(packed.path) as draft:
        rows = np.arange(len(index))
        manifest = {**packed.manifest, STREAMED: {"state": state.location, "splits": list(SPLITS)}}
        moved = Dataset(draft, manifest)
        for split in SPLITS:
            mine = np.flatnonzero(split_of == split)
            order = np.argsort(ids[mine].astype(str), kind="stable")
            rows[mine] = mine[order]
            write_streamed(packed.samples(split), order, draft / moved.samples_file(split), state)
        pq.write_table(index.take(pa.array(rows)), draft / "index.parquet")
        left = {name for split in SPLITS for name in packed.files_of(split)} | {"manifest.json", "index.parquet"}
        for file in packed.path.iterdir():
            if file.name not in left:
                shutil.copyfile(file, draft / file.name)
        sync(draft)
        moved.write_manifest()
    return Dataset.open(packed.path)


def _size(packed: Dataset) -> int:
    """The bytes of the files with samples."""
    return sum((packed.path / name).stat().st_size for split in SPLITS for name in packed.files_of(split))
