"""Folders and tables of texts become data sets, as those of pictures do."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.reference import check, fingerprint, has_no_labels
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.modalities.text import MODALITY
from tests.modalities.text.corpus import TOPICS, text_of, write


def rows(count: int = 30) -> pd.DataFrame:
    texts = [(text_of(TOPICS[number % 3], number), TOPICS[number % 3]) for number in range(count)]
    return pd.DataFrame(texts, columns=["text", "label"])


def stored(packed: Dataset) -> dict[str, str]:
    """The texts of all splits by their path."""
    return {
        path: values.tobytes().decode()
        for name in ("train", "val", "test")
        for path, values in zip(packed.split(name).paths, packed.split(name).samples[:], strict=True)
    }


def test_a_folder_is_packed_with_what_is_no_text_in_quarantine_and_copies_in_one_split(tmp_path):
    folder = write(tmp_path / "texts", 12)
    long = text_of("money", 77, words=120)
    (folder / "money" / "long.txt").write_text(long)
    (folder / "money" / "copy.txt").write_text(long.upper())
    (folder / "money" / "latin.txt").write_bytes("price: £5".encode("latin-1"))
    (folder / "money" / "empty.txt").write_text(" ")
    (folder / "money" / "notes.pdf").write_bytes(b"%PDF")

    packed = prepare(Data(uri=str(folder), input={"length": 64}), tmp_path / "packed", modality="text")

    refused = [json.loads(line) for line in (packed.path / "quarantine.jsonl").read_text().splitlines()]
    assert {each["path"] for each in refused} == {"money/latin.txt", "money/empty.txt", "money/notes.pdf"}
    index = {row["path"]: row["split"] for row in pq.read_table(packed.path / "index.parquet").to_pylist()}
    assert index["money/long.txt"] == index["money/copy.txt"]
    assert stored(packed)["sport/003.txt"] == (folder / "sport" / "003.txt").read_text()
    report = (packed.path / "report.html").read_text()
    assert "Texts as they came" in report
    assert "read the same" in report
    assert "latin" in report


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_holds_the_texts_themselves(tmp_path, suffix):
    table, path = rows(), tmp_path / f"mails.{suffix}"
    table.loc[3, "text"] = 'of two lines,\n"quoted" <b>; über'
    (table.to_csv if suffix == "csv" else table.to_parquet)(path, index=False)

    assert check(str(path), modality_name="text").samples == dict.fromkeys(TOPICS, 10)
    packed = prepare(Data(uri=str(path), input={"encoding": "latin-1"}), tmp_path / "packed", modality="text")

    found = stored(packed)
    assert sorted(found.values()) == sorted(table["text"])
    assert found["row 0000004"] == table["text"][3]
    assert packed.classes == TOPICS


def test_long_and_hostile_cells_of_a_table_are_taken_or_refused_one_by_one(tmp_path):
    table = rows()
    table.loc[0, "text"] = "a long line " * 100_000
    table.loc[1, "text"] = "nul\0here"
    table.loc[2, "text"] = " \n "
    table.to_csv(tmp_path / "mails.csv", index=False)

    packed = prepare(Data(uri=str(tmp_path / "mails.csv")), tmp_path / "packed", modality="text")

    refused = [json.loads(line) for line in (packed.path / "quarantine.jsonl").read_text().splitlines()]
    assert {each["path"]: each["reason"].partition(",")[0] for each in refused} == {
        "row 0000002": "it holds NUL",
        "row 0000003": "it is empty",
    }
    assert max(map(len, stored(packed).values())) == packed.given.most_bytes


def test_a_preparation_that_was_interrupted_reads_the_rows_of_a_table_again_from_its_shards(tmp_path, monkeypatch):
    rows().to_csv(tmp_path / "mails.csv", index=False)
    data = Data(uri=str(tmp_path / "mails.csv"))
    with monkeypatch.context() as broken:
        broken.setattr("headstart.data.prepare.write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(data, tmp_path / "packed", modality="text")
    monkeypatch.setattr(type(MODALITY), "decode", None)

    packed = prepare(data, tmp_path / "packed", modality="text")

    assert sum(packed.counts.values()) == 30


def test_groups_and_splits_of_a_table_are_kept_and_rows_without_a_text_refused(tmp_path):
    table = rows().assign(group=[f"author {number // 6}" for number in range(30)])
    table.loc[5, "text"] = None
    table.to_csv(tmp_path / "mails.csv", index=False)
    rows().assign(split=["train", "test"] * 15).to_csv(tmp_path / "split.csv", index=False)

    packed = prepare(Data(uri=str(tmp_path / "mails.csv")), tmp_path / "packed", modality="text")
    split = prepare(Data(uri=str(tmp_path / "split.csv")), tmp_path / "split", modality="text")

    (refused,) = [json.loads(line) for line in (packed.path / "quarantine.jsonl").read_text().splitlines()]
    assert refused["path"] == "row 0000006"
    of_group: dict[str, set[str]] = {}
    for row in pq.read_table(packed.path / "index.parquet").to_pylist():
        of_group.setdefault(row["group"], set()).add(row["split"])
    assert len(of_group) == 5
    assert all(len(found) == 1 for found in of_group.values())
    assert {int(path[-2:]) % 2 for path in split.split("test").paths} == {0}


def test_pictures_may_stand_in_a_table_as_their_files(tmp_path):
    from tests.modalities.text.pictures import png

    table = pd.DataFrame({"image": [png(number) for number in range(12)], "label": ["a", "b"] * 6})
    table.to_parquet(tmp_path / "pictures.parquet")

    packed = prepare(Data(uri=str(tmp_path / "pictures.parquet"), input={"size": 16}), tmp_path / "packed")

    assert sum(packed.counts.values()) == 12
    assert packed.shape[:2] == (16, 16)


def test_a_changed_cell_changes_the_fingerprint_and_an_unchanged_table_does_not(tmp_path):
    rows().to_csv(tmp_path / "mails.csv", index=False)
    before = fingerprint(str(tmp_path / "mails.csv"))
    assert before is not None
    assert before == fingerprint(str(tmp_path / "mails.csv"))

    changed = rows()
    changed.loc[0, "text"] += " more"
    changed.to_csv(tmp_path / "mails.csv", index=False)

    assert fingerprint(str(tmp_path / "mails.csv")) != before


def test_a_table_without_labels_has_none_and_one_without_texts_is_refused(tmp_path):
    rows()[["text"]].to_csv(tmp_path / "mails.csv", index=False)
    rows().rename(columns={"text": "body"}).to_csv(tmp_path / "body.csv", index=False)

    assert has_no_labels(str(tmp_path / "mails.csv"), modality_name="text")
    data = Data(uri=str(tmp_path / "mails.csv"))
    assert prepare(data, tmp_path / "packed", modality="text", labels="optional").classes == ()
    with pytest.raises(InputError, match="no column path and none called text"):
        prepare(Data(uri=str(tmp_path / "body.csv")), tmp_path / "other", modality="text")


def test_check_reads_texts_in_the_encoding_of_the_recipe(tmp_path):
    for topic in TOPICS:
        (tmp_path / "texts" / topic).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "texts" / topic / f"{number}.txt").write_bytes(f"{number} £ {topic}".encode("latin-1"))

    with pytest.raises(InputError, match=r"no readable sample .*not utf-8"):
        check(str(tmp_path / "texts"), modality_name="text")
    assert check(str(tmp_path / "texts"), modality_name="text", given={"encoding": "latin-1"}).refused == ()


def test_the_digest_follows_the_texts(tmp_path, packed):
    again = prepare(
        Data(uri=packed.manifest["source"]["uri"], input={"length": 64}), tmp_path / "again", modality="text"
    )

    assert again.digest == packed.digest
    assert all(np.array_equal(*pair) for pair in zip(again.samples("test")[:], packed.samples("test")[:], strict=True))
