"""The sequences of the recipe splice_sites.yaml are laid out from a package of Debian, one half with coarse labels."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from headstart.errors import InputError
from headstart_pipelines.splice_sites import main, sequences_of
from tests.recipes import run_recipe


def test_three_columns_are_a_nucleotide_and_labels_are_called_as_biologists_do():
    row = [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0] * 15

    assert list(sequences_of(pd.DataFrame([[*row, "ei"], [*row, "n"]]))) == [
        ("donor", "ACGT" * 15),
        ("neither", "ACGT" * 15),
    ]


def test_copies_are_in_one_half_and_one_half_has_coarse_labels(tmp_path, monkeypatch):
    bits = np.eye(4, dtype=int)[np.random.default_rng(0).integers(0, 4, (40, 60))][..., :3].reshape(40, 180)
    rows = [[*row, ("ei", "ie", "n")[number % 3]] for number, row in enumerate(bits.tolist())]
    monkeypatch.setattr("headstart_pipelines.splice_sites.read_r", lambda *_: pd.DataFrame(rows + rows))

    for _ in range(2):
        main(tmp_path, tmp_path / "splice")

    found = {name: (tmp_path / "splice" / f"{name}.fasta").read_text() for name in ("sites", "kinds")}
    labels = {name: set(re.findall(r"label=(\w+)", text)) for name, text in found.items()}
    assert labels == {"sites": {"site", "neither"}, "kinds": {"donor", "acceptor", "neither"}}
    letters = {name: re.findall(r"\n([ACGT]{60})\n", text) for name, text in found.items()}
    assert len(letters["sites"]) + len(letters["kinds"]) == 80
    assert not set(letters["sites"]) & set(letters["kinds"])


@pytest.mark.parametrize(
    "table",
    [pd.DataFrame([[1, 0, 0, "ei"]]), pd.DataFrame([[1] * 180 + ["ei"]]), pd.DataFrame([[0] * 180 + ["x"]]), {"a": 1}],
)
def test_another_table_is_refused(table):
    with pytest.raises(InputError, match="another form"):
        list(sequences_of(table))


def test_another_package_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=r"r-cran-mlbench|package rdata"):
        main(tmp_path, tmp_path / "splice")

    assert not (tmp_path / "splice").exists()


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real package, fetched and laid out."""
    folder = tmp_path_factory.mktemp("splice")
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        pytest.skip("needs Debian's packages")
    subprocess.run([apt, "download", "r-cran-mlbench"], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("*.deb")
    subprocess.run([dpkg, "-x", str(package), str(folder / "mlbench")], check=True)
    subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.splice_sites", str(folder / "mlbench"), str(folder / "splice")],
        check=True,
    )
    return folder / "splice"


@pytest.mark.slow
def test_introns_begin_with_gt_and_end_with_ag(laid_out):
    records = (laid_out / "kinds.fasta").read_text().split(">")[1:]
    middle = {label: [r.split()[2][28:32] for r in records if f"label={label}" in r] for label in ("donor", "acceptor")}

    assert len(records) == 1650
    assert sum(each[2:] == "GT" for each in middle["donor"]) > 0.95 * len(middle["donor"])
    assert sum(each[:2] == "AG" for each in middle["acceptor"]) > 0.95 * len(middle["acceptor"])


@pytest.mark.slow
def test_the_recipe_ends_with_a_verdict(laid_out, tmp_path, monkeypatch):
    monkeypatch.chdir(laid_out.parent)

    said, board = run_recipe("splice_sites", tmp_path / "w")

    assert {row["strategy"] for row in board} >= {"zero", "linear_probe", "full", "scratch", "classical"}
    assert max(row["accuracy"] for row in board) > 0.8
    assert any(verdict in said for verdict in ("helped", "no evidence", "hurt"))
