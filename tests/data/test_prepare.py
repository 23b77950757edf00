"""What a packed data set holds."""

import hashlib
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.dataset import SPLITS, Dataset
from headstart.data.reference import check, has_no_labels, place_to_read
from headstart.errors import HeadstartError, InputError
from headstart.storage import digests
from headstart.storage.digests import file_digest

Pack = Callable[..., Dataset]
Fill = Callable[..., Path]
Picture = Callable[[Path, int], Path]
SplitsOf = Callable[[Dataset], dict[str, str]]


def test_every_file_is_in_exactly_one_split_with_its_pixels_label_and_hash(folder: Path, pack: Pack) -> None:
    dataset = pack(folder)
    seen = []
    for name in SPLITS:
        split = dataset.split(name)
        assert len(split.samples) == len(split.labels) == len(split.ids) == len(split.paths) == dataset.counts[name] > 0
        for pixels, label, sha256, path in zip(split.samples, split.labels, split.ids, split.paths, strict=True):
            assert np.array_equal(pixels[:, :, 0], np.asarray(Image.open(folder / path)))
            assert dataset.classes[label] == path.split("/")[0]
            assert sha256 == hashlib.sha256((folder / path).read_bytes()).hexdigest()
            seen.append(path)
    assert sorted(seen) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("shape", [(40, 60, 3), (61, 40, 3), (33, 33, 3), (400, 90, 3), (40, 60)])
def test_a_larger_picture_is_its_centred_square_shrunk_by_an_antialiased_filter(
    tmp_path: Path, pack: Pack, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    dataset = pack(tmp_path / "pictures", size=16)
    side, (height, width) = min(shape[:2]), shape[:2]
    left, top = (width - side) // 2, (height - side) // 2
    for name in SPLITS:
        split = dataset.split(name)
        for pixels, path in zip(np.asarray(split.samples), split.paths, strict=True):
            square = Image.open(tmp_path / "pictures" / path).crop((left, top, left + side, top + side))
            expected = np.asarray(square.resize((16, 16), Image.Resampling.BILINEAR)).reshape(pixels.shape)
            assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_samples_are_memory_mapped_and_read_only(folder: Path, pack: Pack) -> None:
    samples = pack(folder).split("train").samples
    assert isinstance(samples, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 0


def test_preparing_twice_gives_equal_files(folder: Path, pack: Pack, tmp_path: Path) -> None:
    one, two = pack(folder, destination=tmp_path / "one"), pack(folder, destination=tmp_path / "two")
    assert {path.name for path in one.path.iterdir()} == {
        "manifest.json", "index.parquet", "train.npy", "val.npy", "test.npy", "quarantine.jsonl", "report.html",
    }  # fmt: skip
    for path in one.path.iterdir():
        assert path.read_bytes() == (two.path / path.name).read_bytes(), path.name


def test_grey_folders_are_stored_grey_and_one_colour_picture_makes_all_rgb(folder: Path, pack: Pack) -> None:
    assert pack(folder).shape == (8, 8, 1)
    assert pack(folder, channels=3).shape == (8, 8, 3)
    Image.new("RGB", (8, 8), "red").save(folder / "cat" / "colour.png")
    dataset = pack(folder)
    assert dataset.shape == (8, 8, 3)
    split = dataset.split("train")
    grey = next(row for row, path in enumerate(split.paths) if "colour" not in path)
    expected = np.asarray(Image.open(folder / split.paths[grey]))
    assert all(np.array_equal(split.samples[grey, :, :, channel], expected) for channel in range(3))
    assert pack(folder, channels=1).shape == (8, 8, 1)


def test_a_split_for_which_no_sample_is_left_is_empty_and_still_readable(
    tmp_path: Path, fill: Fill, pack: Pack
) -> None:
    dataset = pack(fill(tmp_path / "few", {"cat": 2, "dog": 2}))
    assert dataset.counts == {"train": 2, "val": 0, "test": 2}
    assert dataset.split("val").samples.shape == (0, 8, 8, 1)


def test_folders_inside_a_class_folder_belong_to_the_class(folder: Path, pack: Pack, splits_of: SplitsOf) -> None:
    (folder / "cat" / "2024").mkdir()
    (folder / "cat" / "0000.png").rename(folder / "cat" / "2024" / "0000.PNG")
    dataset = pack(folder)
    assert dataset.classes == ("cat", "dog")
    assert "cat/2024/0000.PNG" in splits_of(dataset)


def test_given_splits_are_kept(tmp_path: Path, fill: Fill, pack: Pack, splits_of: SplitsOf) -> None:
    counts = {f"{split}/{label}": 4 for split in SPLITS for label in ("cat", "dog")}
    dataset = pack(fill(tmp_path / "given", counts))
    assert dataset.counts == {"train": 8, "val": 8, "test": 8}
    assert all(path.startswith(f"{split}/") for path, split in splits_of(dataset).items())


def test_a_missing_validation_split_is_carved_out_of_train(
    tmp_path: Path, fill: Fill, pack: Pack, splits_of: SplitsOf
) -> None:
    root = fill(tmp_path / "given", {"train/cat": 8, "train/dog": 8, "test/cat": 5, "test/dog": 5})
    dataset = pack(root, split={"train": 0.6, "val": 0.2, "test": 0.2})
    assert dataset.counts == {"train": 12, "val": 4, "test": 10}
    assert {path for path, split in splits_of(dataset).items() if split == "test"} == {
        path.relative_to(root).as_posix() for path in (root / "test").rglob("*.png")
    }
    assert "no val split" in dataset.manifest["notes"][0]


def test_a_test_sample_is_never_trained_on_even_if_the_folder_leaks(
    tmp_path: Path, fill: Fill, picture: Picture, pack: Pack, quarantine_of: Callable[[Dataset], dict[str, str]]
) -> None:
    root = fill(tmp_path / "given", {f"{split}/{label}": 3 for split in SPLITS for label in ("cat", "dog")})
    for split in SPLITS:
        picture(root / split / "cat" / "same.png", 7)
    dataset = pack(root)
    assert dataset.counts == {"train": 6, "val": 6, "test": 7}
    assert set(quarantine_of(dataset)) == {"train/cat/same.png", "val/cat/same.png"}
    assert "test/cat/same.png" in quarantine_of(dataset)["train/cat/same.png"]
    assert "train/cat/same.png" in (dataset.path / "report.html").read_text().split("Leakage")[1]


def test_a_class_may_be_called_train(tmp_path: Path, fill: Fill, pack: Pack) -> None:
    assert pack(fill(tmp_path / "vehicles", {"train": 6, "car": 6})).classes == ("car", "train")


def test_copies_share_a_split_and_are_reported(folder: Path, picture: Picture, pack: Pack, splits_of: SplitsOf) -> None:
    for index in range(12):
        (folder / "dog" / f"copy{index}.png").write_bytes((folder / "dog" / f"{index:04}.png").read_bytes())
    dataset = pack(folder)
    splits = splits_of(dataset)
    assert all(splits[f"dog/copy{index}.png"] == splits[f"dog/{index:04}.png"] for index in range(12))
    assert "dog/copy3.png" in (dataset.path / "report.html").read_text().split("Duplicates")[1]


def test_fewer_labels_are_a_subset_of_more(folder: Path, pack: Pack) -> None:
    chosen = {k: labelled(pack(folder, labels_per_class=k)) for k in (1, 2, 4)}
    assert [len(chosen[k]) for k in (1, 2, 4)] == [2, 4, 8]
    assert chosen[1] < chosen[2] < chosen[4] < labelled(pack(folder))


def labelled(dataset: Dataset) -> set[str]:
    """The paths of all samples that may be learned from or chosen by."""
    return {path for name in ("train", "val") for path in dataset.split(name).paths}


def test_a_label_budget_bounds_training_and_validation_together_and_leaves_the_test_split_alone(
    folder: Path, pack: Pack, splits_of: SplitsOf
) -> None:
    before = splits_of(pack(folder))
    dataset = pack(folder, labels_per_class=2)
    after = splits_of(dataset)
    tests = {path for path in before if before[path] == "test"}
    assert {path for path in after if after[path] == "test"} == tests
    # The store holds nothing else.
    assert sum(len(dataset.samples(name)) for name in SPLITS) == len(tests) + 2 * 2
    assert sum(split == "unused" for split in after.values()) == 24 - len(tests) - 2 * 2
    assert any("4 labels, of which 2 train and 2 are held out" in note for note in dataset.manifest["notes"])


@pytest.mark.parametrize(("budget", "held_out"), [(1, 0), (2, 1), (5, 1), (8, 2)])
def test_a_fifth_of_a_budget_is_held_out_and_every_class_keeps_a_sample_to_train_on(
    tmp_path: Path, fill: Fill, pack: Pack, budget: int, held_out: int
) -> None:
    dataset = pack(fill(tmp_path / "pictures", {"cat": 15, "dog": 15}), labels_per_class=budget)
    for name, count in (("val", held_out), ("train", budget - held_out)):
        assert np.bincount(dataset.split(name).labels, minlength=2).tolist() == [count, count]


def test_what_belongs_together_is_not_parted_by_a_budget(tmp_path: Path, fill: Fill, pack: Pack) -> None:
    root = fill(tmp_path / "pictures", {"cat": 20, "dog": 20})
    for path in sorted(root.rglob("*.png"))[::2]:
        path.with_stem(f"{path.stem}-copy").write_bytes(path.read_bytes())
    dataset = pack(root, labels_per_class=20)
    train, val = (set(dataset.split(name).ids) for name in ("train", "val"))
    assert train & val == set()
    assert len(train) + len(val) < 40


def test_a_file_that_is_added_moves_no_old_sample_into_a_budget(folder: Path, fill: Fill, pack: Pack) -> None:
    before = labelled(pack(folder, labels_per_class=3))
    after = labelled(pack(fill(folder, {"cat": 3}, start=100), labels_per_class=3))
    assert {path for path in after - before if int(Path(path).stem) < 100} == set()


def test_a_label_is_not_spent_on_a_copy(folder: Path, pack: Pack) -> None:
    for path in sorted(folder.rglob("*.png")):
        path.with_stem(path.stem + "b").write_bytes(path.read_bytes())
    dataset = pack(folder, labels_per_class=4)
    ids = [*dataset.split("train").ids, *dataset.split("val").ids]
    assert len(ids) == len(set(ids)) == 8


def test_a_class_with_too_few_labels_gives_all_it_has_and_is_noted(folder: Path, pack: Pack) -> None:
    dataset = pack(folder, labels_per_class=100)
    assert len(labelled(dataset)) == 24 - dataset.counts["test"]
    assert any("100" in note and "'cat', 'dog'" in note for note in dataset.manifest["notes"])


def test_the_report_shows_counts_pictures_and_small_classes_and_loads_nothing(folder: Path, pack: Pack) -> None:
    (folder / "cat").rename(folder / "<b>cat")
    page = (pack(folder).path / "report.html").read_text()
    assert "&lt;b&gt;cat" in page
    assert "<b>cat" not in page
    assert page.count("data:image/png;base64,") == 12
    assert "Split by rank" in page
    assert "http" not in page
    assert "<script" not in page


def test_a_packed_data_set_is_replaced_but_never_another_folder(folder: Path, pack: Pack, tmp_path: Path) -> None:
    pack(folder)
    assert pack(folder, size=16).shape == (16, 16, 1)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a packed data set"):
        pack(folder, destination=tmp_path / "thesis")
    for overlapping in (folder, folder / "packed", tmp_path):
        with pytest.raises(InputError, match="overlap"):
            pack(folder, destination=overlapping)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()
    assert len(list(folder.rglob("*.png"))) == 24


@pytest.fixture
def disk_of() -> Iterator[Callable[[int], None]]:
    """Has the system refuse whatever would make a file larger than so many bytes, as it does where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1200, 3000, 8000])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    folder: Path, pack: Pack, tmp_path: Path, disk_of: Callable[[int], None], size: int
) -> None:
    disk_of(size)
    with pytest.raises(HeadstartError, match=r"packed cannot be written \(.*File too large\); make room there"):
        pack(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize("name", ["x" * 300, "y/" * 3000])
def test_a_name_that_no_system_takes_is_a_short_sentence(folder: Path, pack: Pack, tmp_path: Path, name: str) -> None:
    for uri in (name, f"file:///{name}"):
        for look in (pack, check, place_to_read, has_no_labels):
            with pytest.raises(InputError, match=r"cannot be reached \(File name too long\); correct the path") as said:
                look(uri)
            assert len(str(said.value)) < 400
    with pytest.raises(HeadstartError, match=r"cannot be written \(File name too long\)"):
        pack(folder, destination=tmp_path / "out" / name)


@pytest.mark.parametrize("uri", ["~nobody-of-that-name/pictures", "file://[pictures"])
def test_a_path_that_there_cannot_be_is_a_sentence(pack: Pack, uri: str) -> None:
    with pytest.raises(InputError, match=r"cannot be reached .*; correct the path"):
        pack(uri)


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet", "val.npy"])
def test_an_incomplete_or_damaged_data_set_is_refused_by_name(folder: Path, pack: Pack, name: str) -> None:
    path = pack(folder).path
    (path / name).write_bytes((path / name).read_bytes()[:-20])
    with pytest.raises(InputError, match=name):
        Dataset.open(path).split("val")
    (path / name).unlink()
    with pytest.raises(InputError, match=name):
        Dataset.open(path)


@pytest.mark.parametrize(("store", "name"), [("raw", "train.npy"), ("jpeg", "train.jpegs"), ("raw", "index.parquet")])
def test_one_flipped_bit_of_the_samples_or_of_the_index_is_found_before_anything_reads_them(
    folder: Path, pack: Pack, store: str, name: str
) -> None:
    path = pack(folder, store=store).path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InputError, match=rf"{name} is damaged; prepare the data set again"):
        Dataset.open(path.parent).split("train")


def test_a_changed_letter_of_the_manifest_is_found(folder: Path, pack: Pack) -> None:
    path = pack(folder).path / "manifest.json"
    path.write_text(path.read_text().replace("cat", "car"))
    with pytest.raises(InputError, match=r"manifest\.json is damaged; prepare the data set again"):
        Dataset.open(path.parent)


def test_a_store_is_read_for_its_digest_once_a_process(
    folder: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(folder)
    read: list[Path] = []
    monkeypatch.setattr(digests, "file_digest", lambda path, end: read.append(path) or file_digest(path, end))
    for _ in range(3):
        for name in SPLITS:
            Dataset.open(packed.path).split(name)
    assert sorted(path.name for path in read) == ["index.parquet", "test.npy", "train.npy", "val.npy"]


def test_a_data_set_without_digests_is_read_and_says_that_it_has_none(
    folder: Path, pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    packed = pack(folder)
    manifest = {key: value for key, value in packed.manifest.items() if key != "files"}
    (packed.path / "manifest.json").write_text(json.dumps(manifest))
    caplog.clear()
    for _ in range(2):
        assert len(Dataset.open(packed.path).split("val").samples) == packed.counts["val"]
    assert [record.message for record in caplog.records] == [
        f"{packed.path} was packed by an older headstart, without digests of its files, so that damage to them goes "
        "unnoticed. Prepare it again to have them."
    ]


def test_another_format_version_is_refused(folder: Path, pack: Pack) -> None:
    path = pack(folder).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(InputError, match="version 99"):
        Dataset.open(path.parent)
