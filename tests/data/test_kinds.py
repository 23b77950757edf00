"""A kind of data is one file: it claims what is its own, and lists it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.data.arrays import Pictures, list_arrays
from headstart.data.dataset import Dataset
from headstart.data.kind import KINDS, Kind, Source, Wanted, kind_of
from headstart.data.listing import Listing
from headstart.data.reference import check, fingerprint, located, place_to_read
from headstart.data.tree import LocalTree
from headstart.errors import InputError
from headstart.registry import Registry


class Numbers(Kind):
    """Pictures as numbers in a JSON file."""

    suffixes = (".numbers",)

    def list(self, source: Source, wanted: Wanted) -> Listing:
        assert source.path is not None
        rows = json.loads(source.path.read_text())
        pixels = np.array([row["pixels"] for row in rows], dtype=np.uint8)
        return list_arrays(source.name, [Pictures(None, pixels, [row["label"] for row in rows])], wanted.labels)


def test_the_kinds_are_known() -> None:
    assert list(KINDS) == [
        "archive", "cifar", "cifar_binary", "fasta", "folder", "idx", "manifest", "npz", "torchvision", "wikitext",
    ]  # fmt: skip


def test_a_kind_from_outside_is_located_checked_and_packed(
    tmp_path: Path, pack: Callable[..., Dataset], add_member: Callable[[Registry, str, object], None]
) -> None:
    path = tmp_path / "shapes.numbers"
    rng = np.random.default_rng(0)
    rows = [{"label": "ab"[n % 2], "pixels": rng.integers(0, 256, (8, 8)).tolist()} for n in range(24)]
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"is a file; give the folder .* or a .zip, .* or .npz file"):
        located(str(path))

    add_member(KINDS, "numbers", Numbers())

    assert located(str(path)) == str(path)
    assert place_to_read(str(path)) == path
    assert check(str(path)).samples == {"a": 12, "b": 12}
    assert (fingerprint(str(path)) or "").startswith("stat:")
    assert pack(path).classes == ("a", "b")


def test_a_folder_is_of_the_most_special_kind_that_claims_it(tmp_path: Path) -> None:
    tree = LocalTree(tmp_path)
    assert kind_of(Source("pictures", tree=tree)) is KINDS["folder"]
    (tmp_path / "train-images-idx3-ubyte").touch()
    assert kind_of(Source("pictures", tree=tree)) is KINDS["idx"]
