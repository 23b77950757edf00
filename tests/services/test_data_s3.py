"""Data sets in a real S3 store, over a way that fails: they arrive whole and identical, or are refused clearly."""

import gzip
import io
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from headstart.data.prepare import prepare, prepare_part
from headstart.data.reference import check, fingerprint, has_no_labels
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.storage import cache, s3
from headstart.storage.state import State
from headstart_pipelines.demo import digits, write_folder
from tests.docs.scaling import requests
from tests.services.faults import Faults
from tests.services.servers import SeaweedFS

pytestmark = pytest.mark.services

SPLIT = {"train": 0.5, "val": 0.2, "test": 0.3}
MIB = 2**20


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 digits as a folder of two classes."""
    images, labels = digits()
    keep = np.flatnonzero(labels < 2)[:60]
    folder = tmp_path_factory.mktemp("pictures") / "digits"
    write_folder(images[keep], labels[keep], folder)
    return folder


@pytest.fixture(scope="module")
def forms(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same digits in every form, each in a folder of its own that becomes a prefix, by the reference below it."""
    root = tmp_path_factory.mktemp("forms")
    (root / "folder").symlink_to(pictures)
    (root / "archives").mkdir()
    with zipfile.ZipFile(root / "archives" / "all.zip", "w") as archive:
        for path in pictures.rglob("*.png"):
            archive.write(path, f"digits/{path.relative_to(pictures).as_posix()}")
    with tarfile.open(root / "archives" / "all.tar.gz", "w:gz") as tar:
        tar.add(pictures, "digits")
    (root / "table").mkdir()
    shutil.copytree(pictures, root / "table" / "pictures")
    rows = [f"pictures/{p.relative_to(pictures).as_posix()},{p.parent.name}" for p in sorted(pictures.rglob("*.png"))]
    (root / "table" / "list.csv").write_text("\n".join(["path,label", *rows]))
    images, labels = digits()
    (root / "idx").mkdir()
    for name, part in (("train", slice(0, 200)), ("t10k", slice(200, 300))):
        for kind, values in (("images-idx3", images[part]), ("labels-idx1", labels[part].astype(np.uint8))):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            (root / "idx" / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    np.savez(root / "archives" / "arrays.npz", images=images[:200], labels=labels[:200])
    return {
        name: root / name
        for name in (
            "folder",
            "archives/all.zip",
            "archives/all.tar.gz",
            "table/list.csv",
            "idx",
            "archives/arrays.npz",
        )
    }


@pytest.fixture(scope="module")
def uploaded(store: SeaweedFS, forms: dict[str, Path]) -> None:
    for top in {path.parents[len(Path(name).parts) - 1] / Path(name).parts[0] for name, path in forms.items()}:
        for folder in (top, top / "pictures"):
            for path in folder.rglob("*.*"):
                if path.is_file():
                    key = f"{top.name}/{path.relative_to(top).as_posix()}"
                    store.client.put_object(Bucket="data", Key=key, Body=path.read_bytes())


@pytest.mark.usefixtures("uploaded")
@pytest.mark.parametrize("fault", [None, "503", "cut", "wrong"])
@pytest.mark.parametrize(
    "form", ["folder", "archives/all.zip", "archives/all.tar.gz", "table/list.csv", "idx", "archives/arrays.npz"]
)
def test_every_form_arrives_whole_and_identical_whatever_happens_once(
    form: str, fault: str | None, forms: dict[str, Path], faults: Faults, tmp_path: Path
) -> None:
    expected = prepare(Data.of({"uri": str(forms[form]), "size": 8, "split": SPLIT}), tmp_path / "here")
    faults.choose = lambda path, asked, earlier: fault if earlier == 0 else None
    fetched = prepare(Data.of({"uri": f"s3://data/{form}", "size": 8, "split": SPLIT}), tmp_path / "there")
    assert fetched.digest == expected.digest
    for name in ("train.npy", "val.npy", "test.npy", "index.parquet", "quarantine.jsonl"):
        assert (fetched.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    assert not fault or faults.happened[fault] > 0
    before = sum(faults.asked.values())
    assert check(f"s3://data/{form}").samples == check(str(forms[form])).samples
    assert sum(faults.asked.values()) == before, "what the cache has is not fetched again"


@pytest.mark.usefixtures("uploaded")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("503", r"answered to s3://data/folder/.*\.png with (SlowDown|503)"),
        ("cut", r"s3://data/folder/.*\.png"),
        ("wrong", r"s3://data/folder/.*\.png arrives damaged"),
    ],
)
def test_what_never_arrives_is_named_and_leaves_no_data_set(
    fault: str, message: str, faults: Faults, tmp_path: Path
) -> None:
    faults.choose = lambda path, asked, earlier: fault
    with pytest.raises(HeadstartError, match=message) as caught:
        prepare(Data.of({"uri": "s3://data/folder", "size": 8, "split": SPLIT}), tmp_path / "packed")
    assert not isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "packed" in path.name] == []
    assert max(faults.asked.values()) == 6


@pytest.mark.usefixtures("uploaded")
def test_a_wrong_secret_is_refused_and_named(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3.client.cache_clear()
    with pytest.raises(InputError, match=r"S3 refuses access to s3://data/folder \(.*AWS_SECRET_ACCESS_KEY") as caught:
        prepare(Data.of({"uri": "s3://data/folder", "size": 8, "split": SPLIT}), tmp_path / "packed")
    assert "wrong" not in str(caught.value)
    assert fingerprint("s3://data/folder") is None


@pytest.fixture
def large(store: SeaweedFS) -> tuple[s3.Object, bytes]:
    """An object of 43 MiB, written in parts."""
    content = np.random.default_rng(7).bytes(43 * MIB + 12_345)
    store.client.upload_fileobj(io.BytesIO(content), "data", "large/noise.bin")
    return next(iter(s3.list_contents("s3://data/large/noise.bin"))), content


def fetched(found: s3.Object) -> bytes:
    with cache.fetch(found) as file:
        return file.read()


@pytest.mark.parametrize("fault", ["503", "cut", "wrong"])
def test_a_large_object_arrives_in_parts_whatever_happens_to_one(
    fault: str, faults: Faults, large: tuple[s3.Object, bytes]
) -> None:
    found, content = large
    faults.choose = lambda path, asked, earlier: fault if earlier == 0 and asked.startswith("bytes=16777216") else None
    assert fetched(found) == content
    assert faults.happened == {fault: 1}
    assert len(faults.asked) == 6


def test_what_arrived_before_an_interruption_is_not_fetched_again(
    faults: Faults, large: tuple[s3.Object, bytes]
) -> None:
    found, content = large
    faults.choose = lambda path, asked, earlier: "503" if asked.startswith("bytes=33554432") else None
    with pytest.raises(HeadstartError, match=r"SlowDown|503"):
        cache.fetch(found)
    arrived = {key for key, count in faults.asked.items() if count == 1}
    faults.choose = lambda path, asked, earlier: None
    assert fetched(found) == content
    assert len(arrived) >= 3
    assert {faults.asked[key] for key in arrived} == {1}


def test_a_killed_download_is_continued_and_never_seen_half(faults: Faults, large: tuple[s3.Object, bytes]) -> None:
    found, content = large
    fetch = f"cache.fetch(s3.Object({found.uri!r}, {found.size}, {found.etag!r}))"
    faults.choose = lambda path, asked, earlier: "503" if asked.startswith("bytes=8388608") else None
    with subprocess.Popen([sys.executable, "-c", f"from headstart.storage import cache, s3; {fetch}"]) as process:
        journal = None
        while journal is None or len(journal.read_text().split()) < 3:
            journal = next(iter(cache.cache_folder().rglob("*.parts")), None)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    done = {f"bytes={int(number) * cache.PART}" for number in journal.read_text().split()}
    assert not [path for path in cache.cache_folder().rglob("*") if path.is_file() and not path.suffix]
    faults.choose = lambda path, asked, earlier: None
    faults.asked.clear()
    assert fetched(found) == content
    assert len(done) >= 3
    assert not done & {asked.partition("-")[0] for _, asked in faults.asked}


def test_an_object_that_is_replaced_while_it_is_read_is_named(
    faults: Faults, store: SeaweedFS, large: tuple[s3.Object, bytes]
) -> None:
    found, _ = large
    store.client.put_object(Bucket="data", Key="large/noise.bin", Body=b"another")
    with pytest.raises(s3.ChangedObject, match=r"s3://data/large/noise\.bin changed while it was read; run again"):
        cache.fetch(found)


@pytest.mark.usefixtures("uploaded")
def test_a_fingerprint_sees_each_object_and_a_manifests_ones(faults: Faults, store: SeaweedFS) -> None:
    seen = []
    store.client.put_object(Bucket="data", Key="far/a.png", Body=b"a")
    table = b"path,label\ns3://data/far/a.png,cat\nb.png,dog\n"
    store.client.put_object(Bucket="data", Key="near/list.csv", Body=table)
    for key, content in (("near/b.png", b"b"), ("near/b.png", b"c"), ("far/a.png", b"other")):
        store.client.put_object(Bucket="data", Key=key, Body=content)
        seen.append((fingerprint("s3://data/near/list.csv"), fingerprint("s3://data/near")))
    assert len({table for table, _ in seen}) == 3
    assert len({prefix for _, prefix in seen}) == 2
    assert all(value.startswith("etag:") for pair in seen for value in pair)
    assert faults.asked.keys() == {("/data/near/list.csv", "")}, "a fingerprint reads no sample"
    assert not has_no_labels("s3://data/near/list.csv")
    assert not has_no_labels("s3://data/folder")


def test_an_object_that_is_no_data_set_is_refused_by_name(faults: Faults, store: SeaweedFS) -> None:
    store.client.put_object(Bucket="data", Key="alone.png", Body=b"a")
    with pytest.raises(InputError, match=r"s3://data/alone\.png is one object; give a prefix, or a \.zip"):
        check("s3://data/alone.png")
    with pytest.raises(InputError, match="There is no object s3://data/none and none below it"):
        check("s3://data/none")


def test_a_preparation_in_parts_asks_the_store_as_often_as_is_written(
    store: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/scaling.md says."""
    count, parts = 1050, 3
    draws = np.random.default_rng(0)

    def upload(number: int) -> None:
        content = b"P5\n8 8\n255\n" + draws.bytes(64)
        store.client.put_object(Bucket="data", Key=f"many/{number % 2}/{number:04}.pgm", Body=content)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(count)))
    for variable, value in (store.environment | {"HEADSTART_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(variable, value)
    s3.client.cache_clear()
    asked: Counter[str] = Counter()
    s3.client().meta.events.register("before-call.s3.*", lambda model, **_: asked.update([model.name]))
    state, data = State("s3://data/state"), Data.of({"uri": "s3://data/many", "size": 8})
    for part in range(parts):
        prepare_part(data, state, part=part, parts=parts)
    read = asked["GetObject"]
    prepare(data, tmp_path / "packed", parts=state)

    shards = asked["PutObject"] // 2
    assert read == count
    assert shards == len({Path(name).stem for name in state.names("parts/")}) > 1
    # The last listing is this test's.
    assert sum(asked.values()) - 1 == requests(count, parts, shards)
    s3.client.cache_clear()
