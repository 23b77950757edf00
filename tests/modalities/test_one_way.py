"""Each kind of data goes the same way: run, report, compare, promote, lineage, predict and serve, with one recipe that
names the kind, what is read of a sample, and a network for it."""

import base64
import csv
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from headstart.modalities import modality
from headstart_pipelines.demo import digits, write_folder
from tests.commands import headstart
from tests.modalities.sequences.genes import RESIDUES, gene, letters
from tests.modalities.text.corpus import write as write_texts
from tests.modalities.waveform.conftest import lay_out as write_sounds
from tests.packages import run_python

CLI = ("-m", "headstart_pipelines.cli")
NAME = "one-way"
MODEL = f"models:/{NAME}-target@champion"


@dataclass(frozen=True)
class Case:
    """`write` fills a folder with so many files a class by a seed; the class `label` is one of them."""

    write: Callable[[Path, int, int], object]
    label: str
    read: dict[str, Any]
    architecture: str


def pictures(folder: Path, count: int, seed: int) -> None:
    images, labels = digits()
    chosen = np.concatenate([np.flatnonzero(labels == label)[seed * count : (seed + 1) * count] for label in range(3)])
    write_folder(images[chosen], labels[chosen], folder)


def genes(folder: Path, count: int, seed: int) -> None:
    for label in ("forward", "reverse"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number:03}.fna").write_text(f">one\n{gene(label, 1000 * seed + number)}\n")


def proteins(folder: Path, count: int, seed: int) -> None:
    for place, label in enumerate(("acid", "base")):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            found = letters(1000 * seed + 2 * number + place, 60, RESIDUES) + ("DEDEED", "KRKKRK")[place] * 3
            (folder / label / f"{number:03}.faa").write_text(f">one\n{found}\n")


CASES = {
    "image": Case(pictures, "0", {"size": 16}, "convnet"),
    "audio": Case(lambda folder, *given: write_sounds(folder, given[0], seed=given[1]), "low",
                  {"seconds": 0.6, "mels": 32}, "convnet"),
    "waveform": Case(lambda folder, *given: write_sounds(folder, given[0], seed=given[1]), "low",
                     {"seconds": 0.6}, "transformer_sound"),
    "text": Case(lambda folder, *given: write_texts(folder, given[0], seed=given[1]), "sport",
                 {"length": 64}, "transformer_tiny"),
    "dna": Case(genes, "forward", {"length": 64}, "convnet_sequence"),
    "protein": Case(proteins, "acid", {"length": 80}, "convnet_sequence"),
}  # fmt: skip


def recipe(name: str, root: Path) -> str:
    case, split = CASES[name], {"train": 0.4, "val": 0.2, "test": 0.4}
    source, target = ({"uri": str(root / role), "input": case.read} for role in ("source", "target"))
    return yaml.safe_dump(
        {
            "name": NAME,
            "modality": name,
            "source": {"data": source, "pretraining": {"architecture": case.architecture, "epochs": 6}},
            "target": {"data": {**target, "labels_per_class": 6, "split": split}},
            "training": {"epochs": 4},
            "strategies": ["linear_probe", "full"],
            # On sets as easy as these classical may be delivered, which comes from no source.
            "baselines": ["scratch"],
            "evaluation": {"resamples": 200, "curve": [2], "explanations": 2, "robustness": 10, "seeds": 1},
        }
    )


def served(workspace: Path, kind: str, files: list[Path]) -> list[str]:
    """The labels that `headstart serve` answers with."""
    encoded = modality(kind).is_text
    inputs = [path.read_text() if encoded else base64.b64encode(path.read_bytes()).decode() for path in files]
    command = [sys.executable, *CLI, "serve", MODEL, "--port", "0", "--workspace", str(workspace)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            _, serving = process.stdout.readline(), process.stdout.readline()
            url = serving.split(" at ")[1].split(";")[0]
            body = json.dumps({"inputs": inputs}).encode()
            asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
            with urllib.request.urlopen(asked, timeout=120) as response:  # noqa: S310
                return [row["label"] for row in json.load(response)["predictions"]]
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_a_recipe_of_any_kind_of_data_ends_in_a_champion_that_is_served(tmp_path: Path, name: str) -> None:
    case, kind = CASES[name], modality(name)
    for seed, role in enumerate(("source", "target")):
        case.write(tmp_path / role, 30, seed)
    (tmp_path / "recipe.yaml").write_text(recipe(name, tmp_path))
    (tmp_path / "policy.yaml").write_text("{min_gain: null}\n")
    files = sorted((tmp_path / "target" / case.label).iterdir())
    workspace = ("--workspace", str(tmp_path / "w"))

    def predicted(given: Path) -> list[str]:
        found = tmp_path / "found.json"
        headstart("predict", MODEL, str(given), "-o", str(found), *workspace)
        return [row["label"] for row in json.loads(found.read_text())]

    headstart("check", str(tmp_path / "recipe.yaml"), *workspace)
    run_python(*CLI, "run", str(tmp_path / "recipe.yaml"), *workspace)
    board = json.loads(headstart("compare", NAME, "--json", *workspace))
    headstart("promote", f"{NAME}-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    lineage = json.loads(headstart("lineage", f"{NAME}-target", "--json", *workspace))
    labels = predicted(files[0].parent)

    assert {row["strategy"] for row in board} >= {"linear_probe", "full", "scratch"}
    assert max(row["accuracy"] for row in board) > 0.7
    assert lineage["source"]["uri"] == f"models:/{NAME}-source/1"
    assert np.mean([label == case.label for label in labels]) > 0.6
    assert served(tmp_path / "w", name, files) == labels
    (page,) = (tmp_path / "w" / "reports").glob("*.html")
    report = page.read_text()
    assert all(corruption.title in report for corruption in kind.corruptions)
    if kind.is_text:
        with (tmp_path / "samples.csv").open("w", newline="") as table:
            csv.writer(table).writerows([[name], *([path.read_text()] for path in files)])
        assert predicted(tmp_path / "samples.csv") == labels
