"""Broken files and folders: refused with a sentence that names the place, or set aside with a reason."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.dataset import Dataset
from headstart.data.reference import check
from headstart.errors import InputError

Pack = Callable[..., Dataset]
Fill = Callable[..., Path]
QuarantineOf = Callable[[Dataset], dict[str, str]]


def test_an_untouched_folder_has_an_empty_quarantine_file(folder: Path, pack: Pack) -> None:
    assert (pack(folder).path / "quarantine.jsonl").read_bytes() == b""


def test_unreadable_and_foreign_files_are_quarantined_each_with_its_reason(
    folder: Path, pack: Pack, quarantine_of: QuarantineOf
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cat" / "cut.png")
    (folder / "cat" / "cut.png").write_bytes((folder / "cat" / "cut.png").read_bytes()[:5000])
    (folder / "cat" / "text.png").write_text("not a picture")
    (folder / "cat" / "empty.jpg").touch()
    (folder / "cat" / "Thumbs.db").write_bytes(b"db")
    (folder / "cat" / ".hidden.png").write_bytes(b"?")
    (folder / ".git").mkdir()
    (folder / "README.txt").write_text("read me")
    (folder / "lost.png").write_bytes((folder / "cat" / "0000.png").read_bytes())
    dataset = pack(folder)
    assert sum(dataset.counts.values()) == 24
    expected = {
        "cat/cut.png": "damaged",
        "cat/text.png": "not an image",
        "cat/empty.jpg": "empty",
        "cat/Thumbs.db": "not a sample: .db",
        "cat/.hidden.png": "hidden",
        ".git": "hidden",
        "README.txt": "not a sample: .txt",
        "lost.png": "not in a class folder",
    }
    quarantine = quarantine_of(dataset)
    assert quarantine.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in quarantine[path]


def test_the_quarantine_names_the_content(folder: Path, pack: Pack) -> None:
    (folder / "cat" / "text.png").write_text("not a picture")
    entry = json.loads((pack(folder).path / "quarantine.jsonl").read_text())
    assert entry["path"] == "cat/text.png"
    assert entry["sha256"] == hashlib.sha256(b"not a picture").hexdigest()


def test_links_out_of_the_folder_special_files_and_odd_names_are_refused_unopened(
    folder: Path, pack: Pack, tmp_path: Path, quarantine_of: QuarantineOf
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((folder / "cat" / "0000.png").read_bytes())
    (folder / "cat" / "link.png").symlink_to(secret)
    (folder / "cat" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    (folder / "cat" / "folder.png").symlink_to(folder / "dog")
    os.mkfifo(folder / "cat" / "pipe.png")
    Path(os.fsdecode(os.fsencode(folder / "cat") + b"/\xff.png")).write_bytes(b"?")
    quarantine = quarantine_of(pack(folder))
    assert "out of the data folder" in quarantine["cat/link.png"]
    assert "link to nothing" in quarantine["cat/broken.png"]
    assert "link to nothing" in quarantine["cat/loop.png"]
    assert "link to a folder" in quarantine["cat/folder.png"]
    assert "regular file" in quarantine["cat/pipe.png"]
    assert "UTF-8" in quarantine["cat/\\xff.png"]
    assert len(quarantine) == 6


def test_the_same_picture_under_two_labels_is_quarantined_under_both(
    folder: Path, pack: Pack, quarantine_of: QuarantineOf
) -> None:
    (folder / "dog" / "twin.png").write_bytes((folder / "cat" / "0005.png").read_bytes())
    dataset = pack(folder)
    quarantine = quarantine_of(dataset)
    assert quarantine.keys() == {"cat/0005.png", "dog/twin.png"}
    assert "dog/twin.png" in quarantine["cat/0005.png"]
    assert "cat/0005.png" in quarantine["dog/twin.png"]
    assert sum(dataset.counts.values()) == 23


def test_a_class_whose_every_file_is_refused_is_an_error(folder: Path, pack: Pack) -> None:
    for path in (folder / "dog").iterdir():
        path.write_text("not a picture")
    for refusing in (lambda: pack(folder), lambda: check(str(folder))):
        with pytest.raises(InputError, match=r"'dog'.*dog/0000\.png.*not an image"):
            refusing()


def make_missing(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def make_file(folder: Path) -> None:
    make_missing(folder)
    folder.write_text("a file")


def make_empty(folder: Path) -> None:
    make_missing(folder)
    folder.mkdir()


def make_flat(folder: Path) -> None:
    for path in list(folder.rglob("*.png")):
        path.rename(folder / f"{path.parent.name}-{path.name}")
    (folder / "cat").rmdir()
    (folder / "dog").rmdir()


def make_one_class(folder: Path) -> None:
    (folder / "dog").rename(folder / "cat" / "dog")


def make_empty_class(folder: Path) -> None:
    (folder / "eel").mkdir()


def make_textual_class(folder: Path) -> None:
    (folder / "eel").mkdir()
    (folder / "eel" / "notes.txt").write_text("eels are fish")


def make_lonely_class(folder: Path) -> None:
    (folder / "eel").mkdir()
    (folder / "cat" / "0000.png").rename(folder / "eel" / "0000.png")


def make_mixed_layout(folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "cat").rename(folder / "train" / "cat")


def make_split_without_train(folder: Path) -> None:
    (folder / "test").mkdir()
    for label in ("cat", "dog"):
        (folder / label).rename(folder / "test" / label)


def make_class_missing_in_test(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split).mkdir()
    (folder / "cat").rename(folder / "test" / "cat")
    (folder / "dog").rename(folder / "train" / "dog")
    (folder / "train" / "cat").mkdir()
    (folder / "test" / "cat" / "0000.png").rename(folder / "train" / "cat" / "0000.png")


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (make_missing, "does not exist"),
        (make_file, "is a file"),
        (make_empty, "no class folders"),
        (make_flat, "no class folders"),
        (make_one_class, r"one class only \('cat'\)"),
        (make_empty_class, "'eel'.*no samples"),
        (make_textual_class, "'eel'.*no samples"),
        (make_lonely_class, "'eel'.*(1 sample|no sample for the test split)"),
        (make_mixed_layout, "'train' beside 'dog'"),
        (make_split_without_train, "no 'train' folder"),
        (make_class_missing_in_test, "'dog'.*no samples in test/"),
    ],
)
def test_a_folder_that_cannot_be_a_data_set_is_refused_in_one_sentence_and_leaves_nothing(
    breaks: Callable[[Path], None], message: str, folder: Path, pack: Pack, tmp_path: Path
) -> None:
    breaks(folder)
    for refusing in (lambda: pack(folder), lambda: check(str(folder))):
        with pytest.raises(InputError, match=message) as caught:
            refusing()
        assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if "packed" in path.name]


@pytest.mark.parametrize("uri", ["ftp://bucket/pictures", "https://example.org/pictures", "file://elsewhere/pictures"])
def test_an_unknown_kind_of_reference_is_refused_with_the_known_ones(uri: str, pack: Pack) -> None:
    with pytest.raises(
        InputError, match=r"not understood; give a path, file:///path, s3://bucket/prefix or torchvision://NAME"
    ):
        check(uri)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": {"train": 0.5, "val": 0.2, "test": 0.2}}, r"split: .* add up to 0\.9"),
        ({"split": {"train": 0.8, "val": 0.2, "test": 0.0}}, "test must be above 0"),
        ({"split": {"train": 0.0, "val": 0.5, "test": 0.5}}, "train must be above 0"),
        ({"split": {"train": 1.5, "test": -0.5}}, r"split\.train"),
        ({"split": {"train": float("nan"), "test": 0.5}}, r"split\.train"),
        ({"split": {"train": 0.5, "dev": 0.5}}, r"split\.dev"),
        ({"labels_per_class": 0}, "labels_per_class"),
        ({"size": 0}, "size"),
        ({"channels": 2}, "channels"),
        ({"modality": "smell"}, "'smell'"),
    ],
)
def test_an_unusable_argument_is_refused_by_name(
    options: dict[str, object], message: str, folder: Path, pack: Pack
) -> None:
    with pytest.raises(InputError, match=message):
        pack(folder, **options)


def test_check_tells_counts_and_what_would_be_refused(folder: Path) -> None:
    (folder / "cat" / "0001.png").write_text("not a picture")
    (folder / "dog" / "notes.txt").write_text("bark")
    summary = check(folder.as_uri())
    assert summary.samples == {"cat": 12, "dog": 12}
    assert summary.splits == ()
    assert [refusal.path for refusal in summary.refused] == ["dog/notes.txt", "cat/0001.png"]


def test_a_folder_reached_through_a_link_or_with_spaces_in_its_uri_works(folder: Path, pack: Pack) -> None:
    spaced = folder.rename(folder.with_name("my pictures"))
    folder.symlink_to(spaced)
    assert pack(folder).counts == pack(Path(str(folder))).counts
    assert check(spaced.as_uri()).samples == {"cat": 12, "dog": 12}
