"""FASTA and tables of sequences become data sets, as folders of pictures do."""

import gzip
import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from headstart.data.dataset import Dataset
from headstart.data.fasta import records_of
from headstart.data.prepare import prepare
from headstart.data.reference import check, fingerprint, has_no_labels
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.modalities import modality
from headstart.modalities._sequences.alphabet import NUCLEOTIDES
from headstart.models.architectures import check_reads
from headstart.recipe.draft import draft_recipe
from headstart.recipe.recipe import Recipe
from tests.modalities.sequences.genes import CLASSES, RESIDUES, gene, letters, write


def stored(packed: Dataset) -> dict[str, str]:
    """The sequences of all splits by their path."""
    return {
        path: values.tobytes().decode()
        for name in ("train", "val", "test")
        for path, values in zip(packed.split(name).paths, packed.split(name).samples[:], strict=True)
    }


def refused(packed: Dataset) -> dict[str, str]:
    rows = [json.loads(line) for line in (packed.path / "quarantine.jsonl").read_text().splitlines()]
    return {row["path"]: row["reason"] for row in rows}


def test_records_of_fasta_are_samples_with_labels_and_what_is_no_sequence_is_refused(tmp_path):
    path = write(tmp_path / "genes.fasta", 20)
    copy = letters(5, 64)
    with path.open("a") as file:
        file.write(f'>wrong label=forward\nACGT!\n>bare\nACGTA\n>one label=forward group="g 1"\n{copy}\n')
        other = "".join(map(chr, NUCLEOTIDES.complement[list(copy.encode())][::-1]))
        file.write(f">two label=reverse\n{other}\n>empty label=reverse\n\n")

    packed = prepare(Data(uri=str(path), input={"length": 64}), tmp_path / "packed", modality="dna")

    assert packed.classes == CLASSES
    assert {path: reason.partition(",")[0] for path, reason in refused(packed).items()} == {
        "record 0000041 wrong": "it has '!' at position 5",
        "record 0000042 bare": "it has no label",
        "record 0000045 empty": "it is empty",
    }
    assert stored(packed)["record 0000001 forward-0"] == gene("forward", 0)
    index = {row["path"]: row for row in pq.read_table(packed.path / "index.parquet").to_pylist()}
    one, two = index["record 0000043 one"], index["record 0000044 two"]
    assert (one["split"], one["group"]) == (two["split"], two["group"]) == (one["split"], "g 1")
    report = (packed.path / "report.html").read_text()
    assert "Sequences as they came" in report
    assert "GC content" in report
    assert "read the same" in report


def test_a_genome_without_labels_is_cut_in_windows(tmp_path):
    genome = letters(1, 1050)
    content = f">chromosome\n{genome[:500]}\n{genome[500:]}\n>plasmid\n{letters(2, 70)}\n"
    (tmp_path / "genome.fna.gz").write_bytes(gzip.compress(content.encode()))
    data = Data(uri=str(tmp_path / "genome.fna.gz"), input={"length": 100})

    assert has_no_labels(data.uri, modality_name="dna")
    assert sum(check(data.uri, modality_name="dna", labels="optional", given=data.input).samples.values()) == 12
    packed = prepare(data, tmp_path / "packed", modality="dna", labels="optional")

    found = stored(packed)
    assert len(found) == 12
    assert found["record 0000001 chromosome 0000000101-0000000200"] == genome[100:200]
    assert found["record 0000001 chromosome 0000001001-0000001050"] == genome[1000:]
    assert len(found["record 0000002 plasmid"]) == 70


def test_labelled_records_are_not_cut(tmp_path):
    path = write(tmp_path / "genes.fa", 10)

    packed = prepare(Data(uri=str(path), input={"length": 20}), tmp_path / "packed", modality="dna")

    assert sum(packed.counts.values()) == 20
    assert set(map(len, stored(packed).values())) == {20}
    assert "longer than the 20 letters" in (packed.path / "report.html").read_text()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_holds_the_sequences_themselves(tmp_path, suffix):
    rows = [(gene(CLASSES[n % 2], n), CLASSES[n % 2], f"gene {n // 4}") for n in range(40)]
    table, path = pd.DataFrame(rows, columns=["dna", "label", "group"]), tmp_path / f"genes.{suffix}"
    (table.to_csv if suffix == "csv" else table.to_parquet)(path, index=False)

    packed = prepare(Data(uri=str(path), input={"length": 64}), tmp_path / "packed", modality="dna")

    assert sorted(stored(packed).values()) == sorted(table["dna"])
    of_group: dict[str, set[str]] = {}
    for row in pq.read_table(packed.path / "index.parquet").to_pylist():
        of_group.setdefault(row["group"], set()).add(row["split"])
    assert len(of_group) == 10
    assert all(len(found) == 1 for found in of_group.values())


def test_class_folders_hold_a_sequence_a_file(tmp_path):
    for n in range(20):
        folder = tmp_path / "proteins" / ("short" if n % 2 else "long")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.faa").write_text(f">p{n}\n{letters(n, 50 + n, RESIDUES)}*\n")
    (tmp_path / "proteins" / "long" / "many.faa").write_text(">a\nMK\n>b\nVL\n")

    packed = prepare(Data(uri=str(tmp_path / "proteins")), tmp_path / "packed", modality="protein")

    assert sum(packed.counts.values()) == 20
    assert "holds 2 records" in refused(packed)["long/many.faa"]
    assert "GC content" not in (packed.path / "report.html").read_text()


def test_given_splits_are_kept(tmp_path):
    with (tmp_path / "genes.fa").open("w") as file:
        for n in range(24):
            split = ("training", "test")[n // 2 % 2]
            file.write(f">g{n} label={CLASSES[n % 2]} split={split}\n{letters(n, 50)}\n")

    packed = prepare(Data(uri=str(tmp_path / "genes.fa")), tmp_path / "packed", modality="dna")

    assert {int(path.split("g")[1]) // 2 % 2 for path in packed.split("test").paths} == {1}
    assert packed.counts["test"] == 12


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"ACGT\nACGT\n", "does not begin with > and a header"),
        (b"", "holds no sequence|no record with a label"),
        (b">a\nACGT\n", "no record with a label; write > and a name"),
        (b">\xff label=a\nACGT\n", "header that is not UTF-8"),
        (b">a label=a\nACGT\n", "one class only"),
        (b">a label=a split=dev\nAC\n>b label=b\nAC\n", "split 'dev' is not known"),
        (b">a label=a split=train\nAC\n>b label=b\nAC\n", "some records a split and others none"),
    ],
)
def test_what_is_no_data_set_is_refused_in_a_sentence(tmp_path, content, reason):
    (tmp_path / "genes.fa").write_bytes(content)

    with pytest.raises(InputError, match=reason):
        prepare(Data(uri=str(tmp_path / "genes.fa")), tmp_path / "packed", modality="dna")


def test_damaged_and_expanding_archives_and_other_modalities_are_refused(tmp_path):
    (tmp_path / "cut.fa.gz").write_bytes(gzip.compress(b">a label=a\n" + letters(0, 4000).encode())[:-100])
    (tmp_path / "bomb.fa.gz").write_bytes(gzip.compress(b">a label=a\n" + b"A" * 80_000_000))
    write(tmp_path / "genes.fa", 4)

    for name, reason in (("cut.fa.gz", "cannot be read as .gz"), ("bomb.fa.gz", "as a bomb does")):
        with pytest.raises(InputError, match=reason):
            prepare(Data(uri=str(tmp_path / name)), tmp_path / "packed", modality="dna")
    with pytest.raises(InputError, match="say modality: dna or protein"):
        check(str(tmp_path / "genes.fa"))


def test_a_record_of_one_endless_line_is_refused_and_the_next_one_read(tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.data.fasta.MAX_BYTES", 100_000)
    (tmp_path / "genes.fa").write_bytes(b">long\n" + b"ACGT" * 50_000 + b"\n>" + b"name" * 50_000 + b"\nACGT")

    with (tmp_path / "genes.fa").open("rb") as file:
        found = list(records_of("genes.fa", file))

    assert [each.content for each in found] == [None, b"ACGT"]
    assert found[1].name == ("name" * 20)


def test_a_changed_record_changes_the_fingerprint(tmp_path):
    path = write(tmp_path / "genes.fa", 3)
    before = fingerprint(str(path))

    assert before == fingerprint(str(path))
    with path.open("a") as file:
        file.write(">new label=forward\nACGT\n")
    assert fingerprint(str(path)) != before


@pytest.mark.parametrize(("name", "alphabet"), [("dna", "ACGT"), ("protein", RESIDUES)])
def test_a_first_recipe_knows_sequences_and_a_network_that_reads_them(tmp_path, name, alphabet):
    with (tmp_path / "genes.fa").open("w") as file:
        file.writelines(f">g{n} label={'ab'[n % 2]}\n{letters(n, 80, alphabet)}\n" for n in range(12))

    recipe = Recipe.of(yaml.safe_load(draft_recipe(str(tmp_path / "genes.fa"), str(tmp_path / "genes.fa")).text))

    assert recipe.modality == name
    check_reads(recipe.source.pretraining.architecture, modality(name))


def test_texts_of_letters_alone_are_no_proteins(tmp_path):
    for label in ("greeting", "question"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "texts" / label / f"{number}.txt").write_text(f"a {label} in words alone")

    assert draft_recipe(str(tmp_path / "texts"), "models:/some").modality == "text"
