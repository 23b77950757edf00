"""Samples as columns: what they say of sets and splits is what a plain rule over one sample after the other says."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from headstart.data.cells import Cells
from headstart.data.columns import Coded, Texts
from headstart.data.duplicates import Pair
from headstart.data.hashing import merkle_digest, position
from headstart.data.listing import File, Files, Listing
from headstart.data.samples import Marks, Readable, numbers_of_contents
from headstart.data.splits import ASSIGNED, Budget, assign, group_names, limit_labels, split_samples, units_of

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def table(files: Iterable[File], contents: Iterable[int]) -> Readable:
    """Samples without arrays, whose digests are those of numbers."""
    digests = np.array([list(sha256(str(number).encode()).digest()) for number in contents], dtype=np.uint8)
    count = len(digests)
    none = Marks(np.zeros(count, np.uint64), pa.array([None] * count, pa.large_binary()))
    one = np.zeros(count, dtype=np.int32)
    return Readable(
        Files.of(files),
        digests,
        numbers_of_contents(digests),
        Coded([(1,)], one),
        Coded([{}], one),
        none,
        Coded([Path("shard")], one),
        np.arange(count),
    )


def drawn(seed: int, *, given: bool = False) -> tuple[Readable, list[Pair]]:
    """Samples with copies, groups and pairs that look alike."""
    draws = np.random.default_rng(seed)
    count = int(draws.integers(20, 300))
    files = [
        File(
            f"{number:04}",
            f"class {draws.integers(4)}",
            str(draws.choice(["train", "test"])) if given else None,
            f"group {draws.integers(count)}" if draws.random() < 0.3 else None,
        )
        for number in range(count)
    ]
    samples = table(files, draws.integers(0, count, count).tolist())
    pairs = [Pair(samples[int(one)], samples[int(other)]) for one, other in draws.integers(0, count, (count // 10, 2))]
    return samples, pairs


def plain_units(samples: Readable, near: list[Pair]) -> list[list[int]]:
    """The positions of samples that belong together, by joining one set with another until nothing is left to join."""
    of: dict[object, set[object]] = {}

    def join(one: object, other: object) -> None:
        both = of.setdefault(one, {one}) | of.setdefault(other, {other})
        of.update(dict.fromkeys(both, both))

    for sample in samples:
        join(sample.sha256, ("group", sample.file.group) if sample.file.group else sample.sha256)
    for pair in near:
        join(pair.one.sha256, pair.other.sha256)
    units: dict[int, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        units[id(of[sample.sha256])].append(row)
    return list(units.values())


def plain_key(samples: Readable, unit: list[int]) -> str:
    groups = [group for row in unit if (group := samples[row].file.group) is not None]
    return f"group:{min(groups)}" if groups else min(samples[row].sha256 for row in unit)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("given", [False, True])
def test_sets_and_splits_are_those_of_the_plain_rule(seed: int, given: bool) -> None:
    samples, near = drawn(seed, given=given)
    classes, splits = tuple(sorted(samples.files.labels.values)), ("train", "test") if given else ()
    listing = Listing("data", classes, splits, samples.files, (), read=str.encode)

    split_of, _ = split_samples(samples, listing, near, SHARES, seed)

    pool = [row for row, sample in enumerate(samples) if sample.file.split != "test"]
    among = samples.take(np.array(pool))
    units = plain_units(among, near)
    assert [sorted(np.flatnonzero(units_of(among, near) == number)) for number in range(len(units))] == units
    shares = {"train": 0.6 / 0.8, "val": 0.2 / 0.8} if given else SHARES
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for unit in units:
        counts = Counter(among[row].file.label for row in unit)
        by_label[min(counts, key=lambda label: (-counts[label], label))].append(unit)
    expected = {row: "test" for row in range(len(samples)) if row not in pool}
    for of_label in by_label.values():
        splits = assign([position(plain_key(among, unit), seed) for unit in of_label], shares)
        expected |= {pool[row]: split for unit, split in zip(of_label, splits, strict=True) for row in unit}
    assert [ASSIGNED[number] for number in split_of] == [expected[row] for row in range(len(samples))]


@pytest.mark.parametrize("seed", range(4))
def test_a_set_is_called_by_its_lowest_group_or_digest_and_one_alone_by_nothing(seed: int) -> None:
    samples, near = drawn(seed)
    named = list(group_names(samples, near))
    for unit in plain_units(samples, near):
        groups = [group for row in unit if (group := samples[row].file.group) is not None]
        digest = min(samples[row].sha256 for row in unit) if len(unit) > 1 else None
        assert {named[row] for row in unit} == {min(groups) if groups else digest}


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_takes_the_lowest_ranks_of_each_class_and_copies_last(seed: int) -> None:
    samples, near = drawn(seed)
    split_of = np.array([(0, 0, 1, 2)[row % 4] for row in range(len(samples))], dtype=np.int8)
    expected: set[int] = set()
    seen: Counter[str] = Counter()
    ranks: dict[str, list[tuple[int, float, int]]] = defaultdict(list)
    for row, sample in enumerate(samples):
        if row % 4 != 3:
            ranks[sample.file.label].append((seen[sample.sha256], position(sample.sha256, seed), row))
            seen[sample.sha256] += 1
    for of_label in ranks.values():
        expected |= {row for *_, row in sorted(of_label)[:10]}

    notes = limit_labels(samples, split_of, near, Budget("labels_per_class", 10), seed)

    assert set(np.flatnonzero(split_of < 2).tolist()) == expected
    assert set(np.flatnonzero(split_of == 2).tolist()) == set(range(3, len(samples), 4))
    assert f"{len(expected)} labels" in notes[0]
    units = units_of(samples.take(split_of < 2), near)
    # What belongs together is learned from or held out as one.
    pairs = set(zip(units.tolist(), split_of[split_of < 2].tolist(), strict=True))
    assert len(pairs) == len(set(units.tolist()))


def test_files_come_in_any_order_and_are_sorted_by_path() -> None:
    files = [File(path, "a", None, None) for path in ("b/2", "a/10", "a/9", "ä", "a/1", "\U0001f600")]
    found = Files.of(iter(files))
    assert list(found) == sorted(files, key=lambda file: file.path)
    assert [found[number] for number in range(len(found))] == list(found)
    assert list(found[1:3]) == list(found)[1:3]
    assert {file.label for file in found.unlabelled()} == {""}


def test_the_digest_by_columns_is_that_of_the_samples() -> None:
    samples, _ = drawn(1)
    rows = [(sample.file.path, sample.sha256, sample.file.label) for sample in samples]
    assert list(zip(samples.files.paths, samples.ids, samples.files.labels, strict=True)) == rows
    assert merkle_digest(reversed(rows)) == merkle_digest(rows)


def test_cells_are_found_in_any_order(tmp_path: Path) -> None:
    contents = {f"row {number:07}": str(number).encode() * (number % 5) for number in range(500)}
    with Cells(tmp_path) as cells:
        assert [cells.add(path, content) for path, content in contents.items()] == [None] * 500
        shuffled = np.random.default_rng(0).permutation(list(contents)).tolist()
        for path in [*contents, *shuffled]:
            assert cells.read(path) == contents[path]
            assert cells.sha256(path) == sha256(contents[path]).hexdigest()
        assert cells.sha256("row 0000500") is None


def test_texts_are_sorted_as_python_sorts_them() -> None:
    texts = ["z", "é", "a\x00", "a", "\uffff", "\U00010000", ""]
    order = Texts.of(texts).order
    assert order is not None
    assert [texts[number] for number in order] == sorted(texts)
    assert Texts.of(sorted(texts)).order is None
    assert Texts.of(texts).isin(["z", "é", "b"]).tolist() == [True, True, *[False] * 5]
