"""What changes a digest and a sample's split, and what does not."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.hashing import merkle_digest, position
from headstart.data.reference import fingerprint
from headstart.data.splits import MIN_EXPECTED, assign

SAMPLES = [(f"{label}/{number}.png", f"{number:064x}", label) for label in ("cat", "dog") for number in range(5)]


def test_the_order_of_listing_does_not_change_the_digest() -> None:
    assert merkle_digest(reversed(SAMPLES)) == merkle_digest(SAMPLES)


@pytest.mark.parametrize("field", [0, 1, 2])
def test_any_changed_field_of_any_sample_changes_the_digest(field: int) -> None:
    digests = {merkle_digest(SAMPLES)}
    for number, sample in enumerate(SAMPLES):
        changed = list(sample)
        changed[field] += "0"
        digests.add(merkle_digest([*SAMPLES[:number], (changed[0], changed[1], changed[2]), *SAMPLES[number + 1 :]]))
    assert len(digests) == 1 + len(SAMPLES)


def test_more_or_fewer_samples_change_the_digest() -> None:
    assert len({merkle_digest(SAMPLES[:count]) for count in range(len(SAMPLES) + 1)}) == len(SAMPLES) + 1


def test_the_digest_is_the_merkle_tree_of_rfc_6962() -> None:
    from hashlib import sha256

    leaves = [
        sha256(b"\x00" + f'["{path}", "{content}", "{label}"]'.encode()).digest()
        for path, content, label in SAMPLES[:3]
    ]
    pair = sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    assert merkle_digest(SAMPLES[:3]) == "sha256:" + sha256(b"\x01" + pair + leaves[2]).hexdigest()


def test_a_flipped_byte_or_label_in_the_folder_changes_the_digest(folder: Path, pack: Callable[..., Dataset]) -> None:
    digests = [pack(folder).digest]
    assert pack(folder).digest == digests[0]
    picture = folder / "cat" / "0003.png"
    content = bytearray(picture.read_bytes())
    content[-1] ^= 1  # in the checksum of the end marker, which decoders do not need
    picture.write_bytes(content)
    digests.append(pack(folder).digest)
    (folder / "cat" / "0004.png").rename(folder / "dog" / "0104.png")
    digests.append(pack(folder).digest)
    assert len(set(digests)) == 3


def test_split_digests_tell_which_split_changed(folder: Path, pack: Callable[..., Dataset]) -> None:
    whole, limited = pack(folder), pack(folder, labels_per_class=2)
    assert whole.digest == limited.digest
    assert whole.split_digest("test") == limited.split_digest("test")
    assert whole.split_digest("train") != limited.split_digest("train")


def test_adding_files_moves_no_old_sample_of_a_big_class(
    tmp_path: Path,
    fill: Callable[..., Path],
    pack: Callable[..., Dataset],
    splits_of: Callable[[Dataset], dict[str, str]],
) -> None:
    root = fill(tmp_path / "big", {"cat": 60, "dog": 60})
    before = splits_of(pack(root))
    fill(root, {"cat": 30}, start=60)
    after = splits_of(pack(root))
    assert len(after) == 150
    assert {path: after[path] for path in before} == before


def test_neither_name_nor_label_nor_position_decides_the_split(
    folder: Path, pack: Callable[..., Dataset], splits_of: Callable[[Dataset], dict[str, str]]
) -> None:
    before = splits_of(pack(folder))
    for path in list((folder / "cat").iterdir()):
        path.rename(path.with_name(f"renamed-{99 - int(path.stem)}.png"))
    after = splits_of(pack(folder))
    assert all(after[f"cat/renamed-{99 - number}.png"] == before[f"cat/{number:04}.png"] for number in range(12))


def test_another_seed_gives_another_split(
    folder: Path, pack: Callable[..., Dataset], splits_of: Callable[[Dataset], dict[str, str]]
) -> None:
    assert splits_of(pack(folder, seed=1)) != splits_of(pack(folder, seed=2))


def test_positions_are_uniform_and_shares_are_met() -> None:
    positions = [position(f"{number:064x}", 0) for number in range(20_000)]
    counts, _ = np.histogram(positions, bins=10, range=(0, 1))
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)
    splits = assign(positions, {"train": 0.7, "val": 0.1, "test": 0.2})
    for name, share in {"train": 0.7, "val": 0.1, "test": 0.2}.items():
        assert abs(splits.count(name) / 20_000 - share) < 0.02


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (10, (7, 1, 2)), (20, (14, 2, 4)), (50, (35, 5, 10))],
)
def test_a_small_class_is_shared_out_by_rank_train_and_test_first(size: int, expected: tuple[int, int, int]) -> None:
    shares = {"train": 0.7, "val": 0.1, "test": 0.2}
    assert size * min(shares.values()) < MIN_EXPECTED
    positions = [position(f"{number:064x}", 3) for number in range(size)]
    splits = assign(positions, shares)
    assert tuple(splits.count(name) for name in ("train", "val", "test")) == expected
    by_rank = [split for _, split in sorted(zip(positions, splits, strict=True))]
    assert by_rank == ["train"] * expected[0] + ["val"] * expected[1] + ["test"] * expected[2]


def test_the_fingerprint_sees_new_renamed_and_rewritten_files(folder: Path) -> None:
    picture = folder / "cat" / "0000.png"
    seen = [fingerprint(str(folder))]
    assert fingerprint(folder.as_uri()) == seen[0]
    os.utime(picture, ns=(1, 1))
    seen.append(fingerprint(str(folder)))
    picture.rename(picture.with_name("renamed.png"))
    seen.append(fingerprint(str(folder)))
    (folder / "dog" / "new.png").write_bytes(b"x")
    seen.append(fingerprint(str(folder)))
    assert len(set(seen)) == 4
    assert all(str(value).startswith("stat:") for value in seen)


def test_what_cannot_be_reached_has_no_fingerprint(tmp_path: Path) -> None:
    assert fingerprint(str(tmp_path / "nowhere")) is None
    assert fingerprint("s3://bucket/pictures") is None
