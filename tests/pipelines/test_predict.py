"""`headstart predict` with a small model of the tests, where what it is asked about is hostile or damaged."""

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle

# Clears the screen, and names the terminal's window.
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m"


def saved(path: Path, *, damage: float = 0.0) -> Path:
    torch.manual_seed(0)
    network = convnet(classes=2, channels=1).eval()
    network.head.weight.data[0, 0] += damage
    network.head.bias.data[1] = 100
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    ModelBundle(network, "convnet", "image", preprocessing, (f"cat{ESCAPES}", f"=dog{ESCAPES}")).save(path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle whose classes are hostile to terminals and spreadsheets."""
    return saved(tmp_path_factory.mktemp("hostile") / "bundle")


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of pictures with names that are hostile to terminals; one is none."""
    (tmp_path / "photos" / "private").mkdir(parents=True)
    for name in (f"a{ESCAPES}.png", "b\nc\t.png", "private/d.png"):
        Image.fromarray(np.full((16, 16), len(name), dtype=np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / f"e{ESCAPES}.png").write_text("no picture")
    return tmp_path / "photos"


def harmless(text: str) -> bool:
    return all(each.isprintable() or each in "\n\t" for each in text)


def test_nothing_that_predict_prints_is_a_command_to_the_terminal(cli, bundle, photos):
    printed = cli("predict", bundle, photos)
    listed = cli("predict", bundle, photos, "--json")

    assert harmless(printed.out + printed.err + listed.out + listed.err)
    assert [line.count("\t") for line in printed.out.splitlines()] == [2, 2, 2, 2]
    # As data it is what it is.
    assert json.loads(listed.out)[0]["path"] == str(photos / f"a{ESCAPES}.png")
    assert json.loads(listed.out)[0]["label"] == f"=dog{ESCAPES}"


def test_what_is_damaged_is_said_without_a_command_to_the_terminal(cli, bundle, photos):
    answer = cli("predict", bundle, photos / f"none{ESCAPES}.png")

    assert (answer.code, harmless(answer.err)) == (2, True)
    assert "does not exist" in answer.err


def test_a_label_is_no_formula_in_csv(cli, bundle, photos):
    assert cli("predict", bundle, photos / "private", "-o", "table.csv").code == 0

    with open("table.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == f"'=dog{ESCAPES}"
    assert list(row)[3:5] == [f"p_cat{ESCAPES}", f"p_=dog{ESCAPES}"]


def test_a_folder_that_cannot_be_read_is_named_and_fails_the_command(cli, bundle, photos, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "private":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    # Root may read any folder.
    monkeypatch.setattr(os, "scandir", refusing)
    answer = cli("predict", bundle, photos)

    assert answer.code == 1
    assert f"{photos / 'private'}\t-\tthe folder cannot be read: Permission denied" in answer.out.splitlines()
    assert f"2 of 4 files and folders could not be read, and nothing in {photos / 'private'} was" in answer.err


def test_a_model_whose_results_are_no_numbers_predicts_nothing_and_is_named(cli, photos, tmp_path):
    damaged = saved(tmp_path / "damaged", damage=float("nan"))
    answer = cli("predict", damaged, photos / "private", "-o", "table.csv")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"headstart: {damaged}: The model's results are no numbers")
    assert not Path("table.csv").exists()
