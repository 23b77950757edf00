"""Samples without labels: how they are found, packed, checked and reported."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.data.dataset import SPLITS, Dataset
from headstart.data.reference import check, has_no_labels
from headstart.errors import InputError

Pack = Callable[..., Dataset]
Fill = Callable[..., Path]


@pytest.fixture
def flat(tmp_path: Path, fill: Fill) -> Path:
    """24 pictures in a folder and nothing else."""
    return fill(tmp_path / "flat", {"pictures": 24}) / "pictures"


def test_files_in_a_folder_without_folders_are_samples_without_labels(flat: Path, pack: Pack) -> None:
    dataset = pack(flat, labels="optional")
    assert dataset.classes == ()
    splits = [dataset.split(name) for name in SPLITS]
    assert all((split.labels == -1).all() and len(split.labels) == len(split.samples) > 0 for split in splits)
    assert sorted(path for split in splits for path in split.paths) == sorted(file.name for file in flat.iterdir())


def test_class_folders_are_classes_where_labels_are_optional(folder: Path, pack: Pack) -> None:
    assert pack(folder, labels="optional").classes == ("cat", "dog")


def test_labels_none_takes_every_file_however_deep_and_whatever_its_folder_is_called(
    folder: Path, pack: Pack, picture: Callable[[Path, int], Path]
) -> None:
    picture(folder / "2024" / "may" / "deep.png", 1)
    picture(folder / "top.png", 2)
    dataset = pack(folder, labels="none")
    assert dataset.classes == ()
    assert sum(dataset.counts[name] for name in SPLITS) == 26


def test_labels_none_does_not_change_what_the_samples_are(tmp_path: Path, fill: Fill, pack: Pack) -> None:
    """In given splits: where they are carved out, small classes each get their share and one whole does not."""
    root = fill(tmp_path / "pictures", {f"{split}/{label}": 6 for split in SPLITS for label in ("cat", "dog")})
    labelled, unlabelled = (pack(root, labels=labels, destination=tmp_path / labels) for labels in ("required", "none"))
    for name in SPLITS:
        one, other = labelled.split(name), unlabelled.split(name)
        assert np.array_equal(one.samples, other.samples)
        assert list(one.paths) == list(other.paths)
    assert labelled.digest != unlabelled.digest


def test_split_folders_give_the_splits_of_files_without_labels(tmp_path: Path, fill: Fill, pack: Pack) -> None:
    root = fill(tmp_path / "pictures", {"train": 9, "val/a": 2, "val/b": 2, "test": 5})
    dataset = pack(root, labels="none")
    assert {name: dataset.counts[name] for name in SPLITS} == {"train": 9, "val": 4, "test": 5}
    assert dataset.classes == ()


def test_a_small_folder_without_labels_is_split_by_rank_and_the_report_says_so_without_naming_a_class(
    tmp_path: Path, fill: Fill, pack: Pack
) -> None:
    dataset = pack(fill(tmp_path, {"few": 5}) / "few", labels="optional")
    assert all(dataset.counts[name] > 0 for name in SPLITS)
    page = (dataset.path / "report.html").read_text()
    assert "to give every split its share. Split by rank" in page
    assert "''" not in page


def test_the_report_shows_samples_from_everywhere_and_speaks_of_no_classes(flat: Path, pack: Pack) -> None:
    page = (pack(flat, labels="optional").path / "report.html").read_text()
    assert "of them labelled" in page
    assert "Classes and splits" not in page
    assert page.count('alt="a training sample"') == 12
    assert "a training sample of" not in page


def test_checking_counts_pictures_without_labels(flat: Path, folder: Path) -> None:
    assert check(str(flat), labels="optional").samples == {"": 24}
    assert check(str(folder), labels="none").samples == {"": 24}
    assert check(str(folder), labels="optional").samples == {"cat": 12, "dog": 12}
    assert has_no_labels(str(flat))
    assert not has_no_labels(str(folder))


def make_empty(flat: Path) -> None:
    for file in flat.iterdir():
        file.unlink()


def make_single(flat: Path) -> None:
    for file in sorted(flat.iterdir())[1:]:
        file.unlink()


def make_textual(flat: Path) -> None:
    for file in flat.iterdir():
        file.write_text("not a picture")


def make_test_empty(flat: Path) -> None:
    (flat / "train").mkdir()
    for file in flat.glob("*.png"):
        file.rename(flat / "train" / file.name)
    (flat / "test").mkdir()


def make_train_missing(flat: Path) -> None:
    make_test_empty(flat)
    shutil.rmtree(flat / "test")
    (flat / "train").rename(flat / "test")


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (make_empty, "pictures has no samples; add some"),
        (make_single, "pictures has (1 sample|no sample for the test split)"),
        (make_textual, r"pictures has no (readable sample|usable sample) .*replace its files"),
        (make_test_empty, "test has no samples; add some"),
        (make_train_missing, "no 'train' folder"),
    ],
)
def test_a_folder_that_gives_no_samples_is_refused_in_one_sentence(
    breaks: Callable[[Path], None], message: str, flat: Path, pack: Pack
) -> None:
    breaks(flat)
    for refusing in (lambda: pack(flat, labels="none"), lambda: check(str(flat), labels="none")):
        with pytest.raises(InputError, match=message) as caught:
            refusing()
        assert "\n" not in str(caught.value)
        assert "''" not in str(caught.value)


def test_where_labels_are_required_a_folder_without_folders_is_refused(flat: Path, pack: Pack) -> None:
    with pytest.raises(InputError, match=r"pictures has no class folders; lay its samples out as <class>/<file>"):
        pack(flat)


def test_a_folder_around_the_pictures_is_one_class_and_the_message_says_how_to_have_none(
    tmp_path: Path, fill: Fill, pack: Pack
) -> None:
    root = fill(tmp_path / "around", {"pictures": 12})
    with pytest.raises(InputError, match=r"one class only \('pictures'\).*do not name classes, say labels: none"):
        pack(root, labels="optional")


def test_a_number_of_labels_a_class_has_no_meaning_without_labels(flat: Path, pack: Pack) -> None:
    with pytest.raises(InputError, match=r"labels_per_class: .*pictures has no labels; leave it out"):
        pack(flat, labels="optional", labels_per_class=2)
