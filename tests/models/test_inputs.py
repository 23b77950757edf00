import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headstart.data import tree
from headstart.errors import InputError
from headstart.modalities import UnreadableSample
from headstart.models.inputs import raw_samples
from headstart.storage import s3


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two files that may be pictures, one of them deep, and one that says it is none; each holds its own name."""
    for name in ("pictures/b.png", "pictures/deep/er/A.JPG", "pictures/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return tmp_path / "pictures"


@pytest.fixture
def bucket(monkeypatch) -> dict[str, bytes]:
    """What lies in S3, in place of S3."""
    objects: dict[str, bytes] = {}

    def listing(uri: str):
        found = [uri] if uri in objects else sorted(o for o in objects if o.startswith(uri.rstrip("/") + "/"))
        if not found:
            raise s3.UnreadableObject(f"There is no object {uri}")
        yield from (s3.Object(each, len(objects[each]), "") for each in found)

    def read(uri: str, *, limit: int) -> bytes:
        if uri not in objects:
            raise s3.UnreadableObject(f"there is no object {uri}")
        return objects[uri]

    monkeypatch.setattr(s3, "list_objects", listing)
    monkeypatch.setattr(s3, "read_object", read)
    monkeypatch.setattr(s3, "open_object", lambda uri: pa.BufferReader(objects[uri]))
    return objects


def read(references: list[object]) -> list[tuple[str, bytes]]:
    return [(sample.name, sample.read()) for sample in raw_samples([str(r) for r in references], "image")]


def test_files_come_in_the_order_given_and_folders_by_name_without_what_is_no_picture(folder):
    notes, picture = folder / "notes.txt", folder / "b.png"
    assert read([notes, folder]) == [
        (str(notes), b"notes.txt"),
        (str(picture), b"b.png"),
        (str(folder / "deep/er/A.JPG"), b"A.JPG"),
    ]


def test_no_file_is_read_before_it_is_asked_for(folder):
    samples = raw_samples([str(folder)], "image")
    (folder / "b.png").write_text("changed")
    assert next(samples).read() == b"changed"


@pytest.mark.parametrize("absent", ["none.png", "s3://scans/none", "no-column.csv"])
def test_what_is_wrong_with_the_last_is_said_before_the_first_is_read(folder, bucket, absent, monkeypatch):
    Path("no-column.csv").write_text("file\nb.png\n")
    with pytest.raises(InputError, match=absent):
        raw_samples([str(folder), absent], "image")


def test_an_empty_folder_alone_is_refused_and_beside_others_passed_over(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"There is no image file in .*empty"):
        raw_samples([str(tmp_path / "empty")], "image")
    assert len(read([tmp_path / "empty", folder])) == 2


@pytest.fixture
def locked(folder, monkeypatch) -> Path:
    """A folder among the pictures that this user may not read; root may read any."""
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return folder / "deep"


def test_a_folder_that_cannot_be_read_stands_in_its_place_with_the_reason(folder, locked):
    (folder / "e.png").write_text("e.png")
    first, second, third = raw_samples([str(folder)], "image")
    assert [first.name, second.name, third.name] == [str(folder / "b.png"), str(locked), str(folder / "e.png")]
    with pytest.raises(UnreadableSample, match=r"^the folder cannot be read: Permission denied$"):
        second.read()


def test_what_a_folder_only_links_to_stands_in_its_place_with_the_reason(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "c.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "d.png")
    reasons = {}
    for sample in raw_samples([str(folder)], "image"):
        try:
            sample.read()
        except UnreadableSample as reason:
            reasons[Path(sample.name).name] = str(reason)
    assert reasons == {
        "c.png": "the file cannot be read: No such file or directory",
        "d.png": "it is not a regular file",
        "linked": "a symbolic link to a folder; name the folder itself",
    }


def test_a_name_that_is_no_text_is_shown_as_text_and_its_file_read(folder):
    Path(os.fsdecode(os.fsencode(folder / "b") + b"\xff.png")).write_text("bytes")
    assert (str(folder / r"b\xff.png"), b"bytes") in read([folder])


def test_a_prefix_in_s3_is_walked_as_a_folder_is(bucket):
    bucket.update({"s3://scans/new/1.png": b"1", "s3://scans/new/2.txt": b"2", "s3://scans/new/deep/3.TIFF": b"3"})
    expected = [("s3://scans/new/1.png", b"1"), ("s3://scans/new/deep/3.TIFF", b"3")]
    assert read(["s3://scans/new/"]) == read(["s3://scans/new"]) == expected
    assert read(["s3://scans/new/2.txt"]) == [("s3://scans/new/2.txt", b"2")]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_lists_paths_relative_to_itself_absolute_and_in_s3(folder, bucket, mark):
    bucket["s3://scans/1.png"] = b"1"
    table = folder / "deep" / "list.csv"
    table.write_text(f"{mark}site,path\na,er/A.JPG\nb,{folder}/b.png\nc,s3://scans/1.png\n", encoding="utf-8")
    names = [str(folder / "deep/er/A.JPG"), str(folder / "b.png"), "s3://scans/1.png"]
    assert read([table]) == list(zip(names, [b"A.JPG", b"b.png", b"1"], strict=True))


def test_a_csv_has_no_images_of_its_own_whatever_its_columns_are_called(folder):
    (folder / "list.csv").write_text("image,path\nfirst,b.png\n")
    assert read([folder / "list.csv"]) == [(str(folder / "b.png"), b"b.png")]


def test_a_path_that_is_no_text_is_one_that_is_not_there(tmp_path):
    pq.write_table(pa.table({"path": [7]}), tmp_path / "numbers.parquet")
    (sample,) = raw_samples([str(tmp_path / "numbers.parquet")], "image")
    assert sample.name == str(tmp_path / "7")
    with pytest.raises(UnreadableSample, match="No such file"):
        sample.read()


def test_a_table_beside_the_working_directory_is_read_from_there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("list.csv").write_text("path\nb.png\n")
    assert read(["list.csv"]) == [("b.png", b"b.png")]


def test_a_table_in_s3_lists_objects_beside_it(bucket):
    bucket.update({"s3://scans/new/list.csv": b"path\nfirst/1.png\n", "s3://scans/new/first/1.png": b"1"})
    assert read(["s3://scans/new/list.csv"]) == [("s3://scans/new/first/1.png", b"1")]


def test_parquet_holds_paths_or_the_images_themselves(folder, tmp_path):
    pq.write_table(pa.table({"path": [str(folder / "b.png")]}), tmp_path / "paths.parquet")
    pq.write_table(pa.table({"image": [b"1", b"2"], "patient": [7, 8]}), tmp_path / "images.parquet")
    pq.write_table(pa.table({"path": ["x.png"], "image": [b"3"]}), tmp_path / "both.parquet")
    assert read([tmp_path / "paths.parquet"]) == [(str(folder / "b.png"), b"b.png")]
    images = str(tmp_path / "images.parquet")
    assert read([images]) == [(f"{images}#1", b"1"), (f"{images}#2", b"2")]
    assert read([tmp_path / "both.parquet"]) == [("x.png", b"3")]


def test_of_a_large_parquet_file_only_some_rows_are_in_memory(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [b"%d" % n for n in range(1000)]}), tmp_path / "many.parquet", row_group_size=100)
    taken = []
    whole = pq.ParquetFile.iter_batches

    def counted(self, *arguments, **options):
        for batch in whole(self, *arguments, **options):
            taken.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    samples = raw_samples([str(tmp_path / "many.parquet")], "image")
    assert next(samples).read() == b"0"
    assert sum(taken) <= 256
    assert len(list(samples)) == 999
    assert sum(taken) == 1000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"file\na.png\n", "has no column path"),
        ("list.csv", b"", "has no column path"),
        ("list.csv", b"path\n\xff\xfe.png\n", "cannot be read as CSV in UTF-8"),
        ("list.parquet", b"no table", "cannot be read as Parquet"),
        ("list.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.* {message}"):
        list(raw_samples([str(tmp_path / name)], "image"))


def test_parquet_without_a_known_column_is_refused(tmp_path):
    pq.write_table(pa.table({"file": ["a.png"]}), tmp_path / "list.parquet")
    with pytest.raises(InputError, match=r"list\.parquet has no column path or image"):
        raw_samples([str(tmp_path / "list.parquet")], "image")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("none.png", "cannot be read: No such file"),
        (".", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("a\0b.png", "there is no such path"),
        ("s3://scans/none.png", "no object s3://scans/none.png"),
        ('""', "no path and no bytes"),
        ("large.png", "more than 256 MiB"),
    ],
)
def test_a_row_that_cannot_be_read_gives_a_reason_and_disturbs_no_other(folder, bucket, row, reason, monkeypatch):
    monkeypatch.setattr(tree, "MAX_BYTES", 10_000)
    (folder / "large.png").write_bytes(bytes(10_001))
    (folder / "list.csv").write_text(f"path\n{row}\nb.png\n")
    broken, whole = raw_samples([str(folder / "list.csv")], "image")
    with pytest.raises(UnreadableSample, match=reason):
        broken.read()
    assert whole.read() == b"b.png"


def test_an_image_column_of_another_type_gives_a_reason(tmp_path):
    pq.write_table(pa.table({"image": ["text"]}), tmp_path / "texts.parquet")
    (sample,) = raw_samples([str(tmp_path / "texts.parquet")], "image")
    with pytest.raises(UnreadableSample, match="no bytes of a picture"):
        sample.read()
