"""CIFAR in binary and WikiText as they are published: read whole, or refused in a sentence."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headstart.data.dataset import Dataset
from headstart.data.reference import check, has_no_labels, located
from headstart.errors import InputError
from tests.commands import headstart
from tests.data.published import articles, cifar10_in_binary, wikitext_in_lines, wikitext_in_tables
from tests.modalities.text.corpus import write
from tests.packages import run_python

Pack = Callable[..., Dataset]
RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"
CLI = ("-m", "headstart_pipelines.cli")


def test_cifar_in_binary_gives_its_pictures_labels_and_splits(tmp_path: Path, pack: Pack) -> None:
    root, images, labels = cifar10_in_binary(tmp_path / "cifar-10-batches-bin", 240)

    dataset = pack(root, size=32)

    assert np.array_equal(dataset.split("test").samples, images[100:])
    assert [dataset.classes[label] for label in dataset.split("test").labels] == [str(n) for n in labels[100:]]
    assert dataset.counts["train"] + dataset.counts["val"] == 100
    assert check(str(root), labels="none").samples == {"": 240}


def test_of_cifar_100_the_fine_labels_are_learned(tmp_path: Path, pack: Pack) -> None:
    root = tmp_path / "cifar-100-binary"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3072), dtype=np.uint8)
    fine = np.arange(60, dtype=np.uint8) % 3
    for name in ("train.bin", "test.bin"):
        (root / name).write_bytes(np.hstack([np.full((60, 1), 9, np.uint8), fine[:, None], pixels]).tobytes())
        pixels = 255 - pixels
    (root / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n")
    (root / "coarse_label_names.txt").write_text("fish\n")

    dataset = pack(root, size=32)

    assert dataset.classes == ("apple", "aquarium_fish", "baby")
    assert dataset.split("test").labels.tolist() == fine.tolist()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has 61,459 bytes, which are no whole pictures"),
        (lambda path: path.write_bytes(b""), "has 0 bytes"),
        (
            lambda path: path.write_bytes(b"\x0a" + path.read_bytes()[1:]),
            "gives picture 1 the label 10, and .* names 10",
        ),
        (lambda path: path.unlink(), r"data_batch_3.bin cannot be read \(.*\); fetch CIFAR in binary again"),
        (lambda path: (path.parent / "batches.meta.txt").write_text(""), "gives picture 1 the label 0, and .* names 0"),
    ],
)
def test_files_that_are_not_cifars_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str, pack: Pack
) -> None:
    root, _, _ = cifar10_in_binary(tmp_path / "cifar", 240)
    spoil(root / "data_batch_3.bin")

    with pytest.raises(InputError, match=reason):
        pack(root, size=32)


@pytest.mark.parametrize("lay_out", [wikitext_in_lines, wikitext_in_tables])
def test_each_paragraph_of_wikitext_is_a_sample_and_its_article_the_group(
    tmp_path: Path, lay_out: Callable[[Path], Path], pack: Pack
) -> None:
    root = lay_out(tmp_path / "wikitext")

    dataset = pack(root, modality="text", size=None, labels="none", input={"length": 64})

    expected = [text for number, texts in enumerate(articles().values()) if number % 5 == 1 for text in texts]
    found = [bytes(sample).decode() for sample in dataset.split("test").samples[:]]
    assert sorted(found) == sorted(text.encode()[:1024].decode(errors="ignore") for text in set(expected))
    assert len(set(dataset.split("test").groups)) == sum(number % 5 == 1 for number in range(len(articles())))
    assert has_no_labels(str(root), modality_name="text")


def test_lines_tables_and_an_archive_of_wikitext_are_the_same_data_set(tmp_path: Path, pack: Pack) -> None:
    roots = [wikitext_in_lines(tmp_path / "raw"), wikitext_in_lines(tmp_path / "tokens", "tokens")]
    roots += [wikitext_in_tables(tmp_path / "tables"), tmp_path / "wikitext-103-raw-v1.zip"]
    with zipfile.ZipFile(roots[-1], "w", zipfile.ZIP_DEFLATED) as archive:
        for file in roots[0].iterdir():
            archive.write(file, f"wikitext-103-raw/{file.name}")

    given = {"modality": "text", "size": None, "labels": "none"}
    assert len({pack(root, destination=tmp_path / "out", **given).digest for root in roots}) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("lay_out", "file", "spoil", "reason"),
    [
        (wikitext_in_lines, "wiki.valid.raw", cut, r"Line \d+ of .*wiki.valid.raw has no end: the file was cut"),
        (wikitext_in_lines, "wiki.test.raw", Path.unlink, "lacks files of WikiText's test split"),
        (
            wikitext_in_lines,
            "wiki.test.raw",
            lambda path: path.write_text(" = A = \n"),
            "no paragraph in its test split",
        ),
        (wikitext_in_lines, "wiki.test.raw", lambda path: path.write_bytes(b"\xff\n"), "Line 1 of .* is not in UTF-8"),
        (
            wikitext_in_lines,
            "wiki.test.raw",
            lambda path: path.write_bytes(b"a" * 2**21 + b"\n"),
            "Line 1 of .* has more than 1 MiB",
        ),
        (
            wikitext_in_lines,
            "wiki.test.raw",
            lambda path: shutil.copy(path, path.with_suffix(".tokens")),
            "has wiki.test.raw and wiki.test.tokens, which are the same texts",
        ),
        (wikitext_in_tables, "train-00001-of-00002.parquet", Path.unlink, "lacks files of WikiText's train split"),
        (wikitext_in_tables, "test-00000-of-00001.parquet", cut, "test-.* cannot be read as Parquet"),
        (
            wikitext_in_tables,
            "test-00000-of-00001.parquet",
            lambda path: pq.write_table(pa.table({"line": ["a"]}), path),
            "test-.* has no column text",
        ),
        (
            wikitext_in_tables,
            "test-00000-of-00001.parquet",
            lambda path: pq.write_table(pa.table({"text": [None, "a"]}), path),
            "test-.* has a row whose text is none",
        ),
    ],
)
def test_files_that_are_not_wikitexts_are_refused(
    tmp_path: Path,
    lay_out: Callable[[Path], Path],
    file: str,
    spoil: Callable[[Path], object],
    reason: str,
    pack: Pack,
) -> None:
    root = lay_out(tmp_path / "wikitext")
    spoil(root / file)

    with pytest.raises(InputError, match=reason):
        pack(root, modality="text", size=None, labels="none")


def test_wikitext_is_no_target_and_no_pictures(tmp_path: Path, pack: Pack) -> None:
    root = wikitext_in_lines(tmp_path / "wikitext")

    with pytest.raises(InputError, match="has no labels; pretrain on it with objective: mlm"):
        pack(root, modality="text", size=None)
    with pytest.raises(InputError, match="holds texts, and modality: image reads none"):
        pack(root, labels="none")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cifar-10-batches-bin", "fetch https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz .* batches.meta.txt"),
        ("wikitext-103-raw-v1", "fetch it by: hf download Salesforce/wikitext .* train-"),
        ("pictures", "correct the path"),
    ],
)
def test_where_a_published_set_is_missing_the_message_says_where_it_is(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(InputError, match=f"does not exist .*; {remedy}"):
        located(str(tmp_path / name))


@pytest.mark.slow
def test_the_recipe_of_cifar_goes_from_files_of_its_layout_to_a_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10_in_binary(tmp_path / "data" / "cifar-10-batches-bin", 1200)
    monkeypatch.chdir(tmp_path)
    small = ("source.pretraining.epochs=2", "target.data.labels_per_class=5", "training.epochs=3")

    assert ends_with_a_board("cifar10", *small) >= {"zero", "linear_probe", "full", "scratch", "classical"}


@pytest.mark.slow
def test_the_recipe_of_wikitext_goes_from_files_of_its_layout_to_a_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wikitext_in_tables(tmp_path / "data" / "wikitext" / "wikitext-103-raw-v1")
    write(tmp_path / "news" / "articles", 40)
    monkeypatch.chdir(tmp_path)
    small = ("source.pretraining.architecture=transformer_tiny", "target.data.labels_per_class=5", "training.epochs=3")

    assert ends_with_a_board("wikitext", *small) >= {"zero", "linear_probe", "full", "scratch", "classical"}


def ends_with_a_board(name: str, *changes: str) -> set[str]:
    """The strategies on the leaderboard of a recipe that runs in the working directory."""
    options = [argument for change in (*changes, "evaluation.seeds=1") for argument in ("--set", change)]
    recipe = str(RECIPES / f"{name}.yaml")
    headstart("check", recipe, *options)
    run_python(*CLI, "run", recipe, *options)
    return {row["strategy"] for row in json.loads(headstart("compare", name, "--json"))}
