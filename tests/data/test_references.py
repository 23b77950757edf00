"""The forms that data comes in: each becomes the data set that the same pictures in folders would."""

import gzip
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from headstart.data.dataset import SPLITS, Dataset
from headstart.data.reference import check, fingerprint, has_no_labels, located, place_to_read
from headstart.errors import InputError

Pack = Callable[..., Dataset]
Fill = Callable[..., Path]
SplitsOf = Callable[[Dataset], dict[str, str]]


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """300 of scikit-learn's digits, uint8 (300, 8, 8), and their labels."""
    bunch = load_digits()
    return np.round(bunch.images[:300] * (255 / 16)).astype(np.uint8), bunch.target[:300]


def contents(dataset: Dataset) -> dict[str, dict[tuple[str, bytes], int]]:
    """How often each split has each labelled picture."""
    counted: dict[str, dict[tuple[str, bytes], int]] = {}
    for name in SPLITS:
        split = dataset.split(name)
        counts = counted[name] = {}
        for pixels, label in zip(split.samples, split.labels, strict=True):
            key = (dataset.classes[label], pixels.tobytes())
            counts[key] = counts.get(key, 0) + 1
    return counted


# Archives


def zipped(folder: Path, archive: Path, below: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, below + path.relative_to(folder).as_posix())
    return archive


def tarred(folder: Path, archive: Path, below: str = ".") -> Path:
    with tarfile.open(archive, "w:gz" if archive.name.lower().endswith("gz") else "w") as file:
        file.add(folder, below)
    return archive


@pytest.mark.parametrize("below", ["", "pets/", "download/pets/"])
@pytest.mark.parametrize("name", ["pets.zip", "pets.tar", "pets.tar.gz", "PETS.TGZ"])
def test_an_archive_is_the_data_set_of_the_folder_it_was_made_of(
    folder: Path, pack: Pack, tmp_path: Path, name: str, below: str
) -> None:
    make = zipped if name.endswith("zip") else tarred
    archive = make(folder, tmp_path / name, below or ("" if make is zipped else "."))
    packed, unpacked = pack(archive, destination=tmp_path / "one"), pack(folder)
    assert packed.digest == unpacked.digest
    assert contents(packed) == contents(unpacked)
    assert check(str(archive)).samples == {"cat": 12, "dog": 12}


def test_an_archives_own_splits_are_kept(tmp_path: Path, fill: Fill, pack: Pack) -> None:
    root = fill(tmp_path / "given", {f"{split}/{label}": 4 for split in SPLITS for label in ("cat", "dog")})
    assert pack(tarred(root, tmp_path / "given.tar")).counts == {"train": 8, "val": 8, "test": 8}


def test_one_split_folder_in_an_archive_stays_one(tmp_path: Path, fill: Fill, pack: Pack) -> None:
    root = fill(tmp_path / "given", {"train/cat": 12, "train/dog": 12})
    packed = pack(zipped(root, tmp_path / "given.zip"))
    assert packed.digest == pack(root).digest
    assert packed.manifest["source"]["given_splits"] == ["train"]


# Manifests


def manifest(path: Path, rows: list[tuple[object, ...]], columns: str = "path,label") -> Path:
    names = columns.split(",")
    if path.suffix == ".parquet":
        table = {name: [row[number] for row in rows] for number, name in enumerate(names)}
        pq.write_table(pa.table(table), path)
    else:
        path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_manifest_names_files_and_labels_in_any_folders(folder: Path, pack: Pack, name: str) -> None:
    unpacked = pack(folder)
    rows = [(f"{label}/{number:04}.png", label) for label in ("dog", "cat") for number in range(12)]
    packed = pack(manifest(folder / name, rows))
    assert packed.digest == unpacked.digest
    assert contents(packed) == contents(unpacked)


def test_numbers_are_labels_in_their_order(folder: Path, pack: Pack) -> None:
    rows = [(f"{kind}/{number:04}.png", number % 12) for kind in ("cat", "dog") for number in range(12)]
    parquet = pack(manifest(folder / "list.parquet", rows), split={"train": 0.4, "val": 0.2, "test": 0.4})
    assert parquet.classes == tuple(str(number) for number in range(12))
    assert (
        pack(manifest(folder / "list.csv", rows), split={"train": 0.4, "val": 0.2, "test": 0.4}).digest
        == parquet.digest
    )


def test_a_manifests_splits_are_kept(folder: Path, pack: Pack, splits_of: SplitsOf) -> None:
    names = ["train", "Validation", "TEST"]
    rows = [(f"{kind}/{n:04}.png", kind, names[n % 3]) for kind in ("cat", "dog") for n in range(12)]
    splits = splits_of(pack(manifest(folder / "list.csv", rows, "path,label,split")))
    assert splits == {path: SPLITS[names.index(split)] for path, _, split in rows}


def test_a_group_is_never_parted_and_adding_to_it_moves_nothing(
    tmp_path: Path, fill: Fill, pack: Pack, splits_of: SplitsOf
) -> None:
    root = fill(tmp_path / "scans", {"ill": 120, "well": 120})
    rows = [(f"{kind}/{n:04}.png", kind, f"patient {n // 4}") for kind in ("ill", "well") for n in range(120)]
    before = pack(manifest(root / "list.csv", rows[:200], "path,label,group"))
    after = pack(manifest(root / "list.csv", rows, "path,label,group"))
    places: dict[str, set[str]] = {}
    for row in pq.read_table(after.path / "index.parquet").to_pylist():
        places.setdefault(row["group"], set()).add(row["split"])
    assert set(after.split("test").groups) == {name for name, splits in places.items() if splits == {"test"}}
    assert len(places) == 30
    assert all(len(splits) == 1 for splits in places.values())
    assert set().union(*places.values()) == set(SPLITS)
    old, new = splits_of(before), splits_of(after)
    # Patients 20 to 29 had samples of one class only before, so they alone may be counted elsewhere.
    moved = {path for path in old if old[path] != new[path]}
    assert all(int(path.split("/")[1][:4]) >= 80 for path in moved)


def test_rows_that_cannot_be_samples_are_quarantined_each_with_its_reason(
    folder: Path, pack: Pack, tmp_path: Path, quarantine_of: Callable[[Dataset], dict[str, str]]
) -> None:
    (tmp_path / "secret.png").write_bytes((folder / "cat" / "0000.png").read_bytes())
    (folder / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "outside").symlink_to(tmp_path)
    rows: list[tuple[object, ...]] = [(f"{kind}/{n:04}.png", kind) for kind in ("cat", "dog") for n in range(12)]
    rows += [
        ("../secret.png", "cat"), (str(tmp_path / "secret.png"), "cat"), ("cat/link.png", "cat"), ("", "cat"),
        ("outside/secret.png", "cat"), ("cat/none.png", "cat"), ("cat", "cat"), ("http://x.org/1.png", "cat"),
        ("dog/../cat/0003.png", "dog"), ("cat/0004.png", ""), ("cat/0005.png", "cat"),
    ]  # fmt: skip
    dataset = pack(manifest(folder / "list.csv", rows))
    quarantine = quarantine_of(dataset)
    for path, reason in {
        "../secret.png": "out of the manifest's folder",
        str(tmp_path / "secret.png"): "absolute",
        "cat/link.png": "out of the data folder",
        "outside/secret.png": "out of the data folder",
        "row 28": "no path",
        "cat/none.png": "no such file",
        "cat": "a folder",
        "http://x.org/1.png": "neither",
        "cat/0003.png": "contradicts",
        "cat/0004.png": "no label",
    }.items():
        assert reason in quarantine.pop(path), path
    assert quarantine == {}
    assert sum(dataset.counts.values()) == 23


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,cat\n", "no column path"),
        ("path\ncat/0000.png\n", "no column label"),
        ("path,label,split\ncat/0000.png,cat,dev\n", "row 1: split 'dev' is not known"),
        ("path,label,split\ncat/0000.png,cat,train\ndog/0000.png,dog,\n", "some rows a split and others none"),
        ("path,label,split\ncat/0000.png,cat,test\n", "no row the split train"),
        ("path,label\ncat/0000.png,cat\n", "one class only"),
        ("path,label\n", "names no sample that can be read; correct it"),
        ("\xff\xfe", "cannot be read as CSV in UTF-8"),
    ],
)
def test_a_manifest_that_cannot_be_one_is_refused_by_name(folder: Path, pack: Pack, content: str, message: str) -> None:
    (folder / "list.csv").write_bytes(content.encode("latin1"))
    with pytest.raises(InputError, match=rf"list\.csv.*{message}"):
        pack(folder / "list.csv")


def test_a_manifest_without_labels_is_a_data_set_without(folder: Path, pack: Pack) -> None:
    path = manifest(folder / "list.csv", [(f"cat/{n:04}.png",) for n in range(12)], "path")
    assert has_no_labels(str(path))
    assert pack(path, labels="optional").classes == ()


# Arrays


def idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(root: Path, digits: tuple[np.ndarray, np.ndarray], suffix: str = "") -> Path:
    root.mkdir(parents=True)
    images, labels = digits
    for name, part in (("train", slice(0, 200)), ("t10k", slice(200, 300))):
        idx(root / f"{name}-images-idx3-ubyte{suffix}", images[part])
        idx(root / f"{name}-labels-idx1-ubyte{suffix}", labels[part])
    return root


def is_digits(dataset: Dataset, digits: tuple[np.ndarray, np.ndarray], seen_in_test: slice) -> None:
    images, labels = digits
    split = dataset.split("test")
    assert dataset.classes == tuple(str(number) for number in range(10))
    assert np.array_equal(split.samples[..., 0], images[seen_in_test])
    assert np.array_equal(split.labels, labels[seen_in_test])
    assert sum(dataset.counts.values()) == len(labels)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_give_their_pictures_labels_and_splits(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack, suffix: str
) -> None:
    root = idx_folder(tmp_path / "mnist", digits, suffix)
    is_digits(pack(root), digits, slice(200, 300))
    assert not has_no_labels(str(root))
    assert sum(check(str(root)).samples.values()) == 300


def test_the_digest_of_idx_files_is_the_same_packed_plain_and_in_an_archive(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack
) -> None:
    plain, packed = idx_folder(tmp_path / "plain", digits), idx_folder(tmp_path / "packed", digits, ".gz")
    archive = tarred(packed, tmp_path / "all.tar.gz", "mnist/raw")
    assert len({pack(root, destination=tmp_path / "out").digest for root in (plain, packed, archive)}) == 1


def cifar_folder(root: Path, digits: tuple[np.ndarray, np.ndarray]) -> tuple[Path, np.ndarray]:
    """Batches as CIFAR-10's, of digits on three coloured grounds."""
    root.mkdir(parents=True)
    images = np.zeros((300, 32, 32, 3), np.uint8)
    images[:] = np.array([10, 20, 30])
    images[:, 8:24, 8:24] = digits[0].repeat(2, axis=1).repeat(2, axis=2)[..., None]
    for number in range(6):
        part = slice(50 * number, 50 * number + 50)
        batch = {
            b"data": images[part].transpose(0, 3, 1, 2).reshape(50, -1),
            b"labels": digits[1][part].tolist(),
            b"filenames": [b"x.png"] * 50,
        }
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [str(number).encode() for number in range(10)]}
    (root / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return root, images


def test_cifar_batches_give_their_pictures_labels_and_splits(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack
) -> None:
    root, images = cifar_folder(tmp_path / "cifar-10-batches-py", digits)
    archive = tarred(root, tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py")
    for place in (root, archive):
        dataset = pack(place, size=32)
        assert np.array_equal(dataset.split("test").samples, images[250:])
        assert np.array_equal(dataset.split("test").labels, digits[1][250:])
        assert sum(dataset.counts.values()) == 300


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    root, _ = cifar_folder(tmp_path / "cifar", digits)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (root / "data_batch_2").write_bytes(pickle.dumps({b"data": Evil()}, protocol))
        with pytest.raises(InputError, match=r"data_batch_2 is not a file of CIFAR \(it (names|has the operation)"):
            pack(root)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
)
def test_npz_files_give_their_pictures_labels_and_splits(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack, names: tuple[str, ...]
) -> None:
    images, labels = digits
    arrays = dict(zip(names, (images[:200], labels[:200], images[200:], labels[200:, None]), strict=True))
    np.savez_compressed(tmp_path / "digits.npz", **arrays)
    is_digits(pack(tmp_path / "digits.npz"), digits, slice(200, 300))


def test_npz_files_without_splits_are_split_by_content_with_groups_together_and_classes_named(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack
) -> None:
    images, labels = digits
    colour = np.repeat(images[:, None], 3, axis=1)
    odd = labels % 2
    groups = np.arange(300) // 10
    np.savez(tmp_path / "digits.npz", images=colour, labels=odd, groups=groups, classes=np.array(["even", "odd"]))
    dataset = pack(tmp_path / "digits.npz")
    assert dataset.classes == ("even", "odd")
    assert dataset.shape == (8, 8, 3)
    parted: dict[str, set[str]] = {}
    for row in pq.read_table(dataset.path / "index.parquet").to_pylist():
        parted.setdefault(row["group"], set()).add(row["split"])
    assert {len(splits) for splits in parted.values()} == {1}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((9, 8, 8), np.float32), "labels": np.arange(9)}, "float32, whose range nobody knows"),
        ({"images": np.zeros((9, 64), np.uint8), "labels": np.arange(9)}, "no row of grey or RGB pictures"),
        ({"images": np.zeros((9, 8, 8), np.uint8), "labels": np.arange(8)}, "9 pictures but 8 labels"),
        ({"images": np.zeros((9, 8, 8), np.uint8)}, "no labels"),
        ({"images": np.zeros((9, 8, 8), np.uint8), "labels": np.linspace(0, 1, 9)}, "labels of type float64"),
        ({"images": np.array([{}] * 9, object), "labels": np.arange(9)}, "Python objects"),
        ({"pictures": np.zeros((9, 8, 8), np.uint8)}, "has the arrays pictures; name them"),
        ({"images": np.zeros((9, 8, 8), np.uint8), "labels": np.zeros(9, int)}, "one class only"),
    ],
)
def test_arrays_that_are_no_pictures_with_labels_are_refused_by_name(
    tmp_path: Path, pack: Pack, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(InputError, match=rf"some\.npz.*{message}"):
        pack(tmp_path / "some.npz")


# torchvision


def test_a_data_set_of_torchvision_is_read_where_it_lies(
    tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_DATASETS", str(tmp_path / "sets"))
    idx_folder(tmp_path / "sets" / "FashionMNIST" / "raw", digits)
    is_digits(pack("torchvision://FashionMNIST"), digits, slice(200, 300))


def test_what_torchvision_itself_reads_gives_its_pictures_and_names(
    tmp_path: Path, fill: Fill, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    root = fill(tmp_path / "datasets" / "eurosat" / "2750", {"Forest": 12, "River": 12})
    dataset = pack("torchvision://EuroSAT")
    assert dataset.classes == ("Forest", "River")
    unpacked = pack(root, channels=3, destination=tmp_path / "unpacked")
    one, other = ({key for split in contents(packed).values() for key in split} for packed in (dataset, unpacked))
    assert one == other
    assert len(one) == 24


def test_nothing_is_downloaded_where_that_is_forbidden(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_DOWNLOAD", "never")
    for name in ("MNIST", "CIFAR10", "SVHN"):
        with pytest.raises(InputError, match=f"torchvision://{name} is not in .*forbids to download it; put it there"):
            pack(f"torchvision://{name}")
        assert fingerprint(f"torchvision://{name}") is None


def test_an_unknown_data_set_of_torchvision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"MNITS is not a data set.*one of: .*MNIST"):
        located("torchvision://MNITS")


# Fingerprints and places


def test_what_has_to_be_there_for_a_reader_is_a_folder(folder: Path, tmp_path: Path) -> None:
    assert place_to_read(str(folder)) == folder
    assert place_to_read(folder.as_uri()) == folder
    assert place_to_read(str(folder / "list.csv")) == folder
    assert place_to_read("torchvision://MNIST") == tmp_path / "torch" / "datasets"
    assert place_to_read("s3://bucket/pictures") is None


def test_a_fingerprint_sees_what_a_manifest_names(folder: Path) -> None:
    path = manifest(folder / "list.csv", [("cat/0000.png", "cat"), ("dog/0000.png", "dog")])
    seen = [fingerprint(str(path))]
    (folder / "cat" / "0001.png").unlink()
    assert fingerprint(str(path)) == seen[0]
    (folder / "cat" / "0000.png").write_bytes(b"other")
    seen.append(fingerprint(str(path)))
    (folder / "dog" / "0000.png").unlink()
    seen.append(fingerprint(str(path)))
    assert len(set(seen)) == 3
    assert None not in seen


def test_a_fingerprint_sees_another_archive(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "pets.zip")
    before = fingerprint(str(archive))
    zipped(folder, archive, "pets/")
    assert fingerprint(str(archive)) != before is not None
