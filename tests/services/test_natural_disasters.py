"""The recipe natural_disasters.yaml as it ships: VGG16 at 224 × 224 from weights where torch's hub keeps them.

Among the tests with services because of its weight, not because it needs one: the weights file is 528 MB, and VGG16
takes about a second a picture and epoch on 2 cores.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from headstart.models.bundle import ModelBundle

pytestmark = pytest.mark.services

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "natural_disasters.yaml"
PICTURES_PER_CLASS = 5


def picture(label: str, rng: np.random.Generator) -> Image.Image:
    """A picture of any size and shape on which the class can be seen, as it can on a satellite's."""
    width, height = rng.integers(180, 640, 2)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    match label:
        case "cyclone":
            wave = np.sin(3 * np.arctan2(y - 0.5, x - 0.5) + 30 * np.hypot(x - 0.5, y - 0.5) + rng.uniform(0, 6))
            dark, bright = (10, 40, 120), (230, 235, 240)
        case "earthquake":
            blocks = rng.uniform(-1, 1, (24, 24))
            wave = blocks[(y * 24).astype(int), (x * 24).astype(int)]
            dark, bright = (40, 40, 40), (210, 200, 190)
        case "flood":
            wave = np.sin(80 * y + 3 * np.sin(9 * x + rng.uniform(0, 6)))
            dark, bright = (90, 70, 40), (150, 120, 80)
        case _:
            wave = np.clip(2 * y - 1 + 0.4 * np.sin(20 * x + rng.uniform(0, 6)), -1, 1)
            dark, bright = (40, 20, 20), (255, 130, 10)
    share = (wave[..., None] + 1) / 2
    pixels = np.array(dark) * (1 - share) + np.array(bright) * share + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the pictures where the recipe looks for them, and the weights where torch's hub does."""
    folder = tmp_path_factory.mktemp("disasters")
    rng = np.random.default_rng(0)
    for label in ("cyclone", "earthquake", "flood", "wildfire"):
        (folder / "data" / "natural_disasters" / label).mkdir(parents=True)
        for number in range(PICTURES_PER_CLASS):
            file = folder / "data" / "natural_disasters" / label / f"{number}.jpg"
            picture(label, rng).save(file, quality=90)
    weights = folder / "torch" / "hub" / "checkpoints" / "vgg16-397923af.pth"
    weights.parent.mkdir(parents=True)
    # In a process of its own, whose memory is free again before the run needs it.
    script = "import sys, torch, torchvision; torch.manual_seed(0); " \
        "torch.save(torchvision.models.vgg16().state_dict(), sys.argv[1])"  # fmt: skip
    subprocess.run([sys.executable, "-c", script, str(weights)], check=True)
    yield folder
    weights.unlink()


def headstart(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", *arguments],
        cwd=place,
        env={**os.environ, "TORCH_HOME": str(place / "torch")},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Ended:
    """The run's answer and its artifacts' folder."""

    done: subprocess.CompletedProcess[str]
    artifacts: Path


@pytest.fixture(scope="module")
def ended(place: Path) -> Ended:
    # Partial transfer from a new head: one epoch on 14 pictures does not have to beat a probe, which would then stay.
    strategies = "strategies=[zero, {name: partial, transfer: partial, schedule: constant}, full]"
    done = headstart(place, "run", str(RECIPE), "--set", "training.epochs=1", "--set", strategies)
    assert done.returncode == 0, done.stderr
    (artifacts,) = (place / ".headstart" / "pipeline").iterdir()
    return Ended(done, artifacts)


def strategy(bundle: Path) -> str:
    return json.loads((bundle / "model.json").read_text())["provenance"]["strategy"]


def test_check_finds_the_recipe_in_order(place: Path) -> None:
    done = headstart(place, "check", str(RECIPE))
    assert done.returncode == 0, done.stderr
    assert "20 samples in 4 classes" in done.stdout
    assert re.search(r"torchvision://vgg16/IMAGENET1K_V1#sha256=[0-9a-f]{64}", done.stdout)


def test_zero_partial_and_full_transfer_and_both_baselines_are_compared(ended: Ended) -> None:
    board = json.loads((ended.artifacts / "evaluate" / "leaderboard").read_text())
    names = {entry["strategy"] for entry in board["entries"]}
    assert names - {"ensemble"} == {"zero", "partial", "full", "scratch", "classical"}


def test_pictures_are_packed_at_224_pixels_and_no_picture_trains_and_tests(ended: Ended) -> None:
    packed = ended.artifacts / "prepare-data" / "dataset"
    index = pd.read_parquet(packed / "index.parquet")
    ids = {name: set(index.loc[index["split"] == name, "id"]) for name in ("train", "val", "test")}
    assert all(ids.values())
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 4 * PICTURES_PER_CLASS
    assert np.load(packed / "train.npy", mmap_mode="r").shape[1:] == (224, 224, 3)


def test_partial_transfer_keeps_the_first_stages_of_the_weights_file_and_trains_the_others(
    ended: Ended, place: Path
) -> None:
    import torch

    weights = torch.load(place / "torch" / "hub" / "checkpoints" / "vgg16-397923af.pth", weights_only=True, mmap=True)
    convolutions = [value for key, value in weights.items() if key.startswith("features.")]
    (trained,) = [path for path in ended.artifacts.glob("*/finetune/model") if strategy(path) == "partial"]
    bundle = ModelBundle.load(trained)
    kept = [bool((a == b).all()) for a, b in zip(bundle.network.stages.parameters(), convolutions, strict=True)]
    # Blocks 1 to 3 of 5 hold 7 of the 13 convolutions, each with weight and bias.
    assert kept == [True] * 14 + [False] * 12


def test_the_winner_is_registered_with_its_lineage_and_predicts_from_a_file(ended: Ended, place: Path) -> None:
    assert "models:/natural-disasters-target/1" in ended.done.stdout
    client = MlflowClient(f"sqlite:///{place / '.headstart' / 'mlflow.db'}")
    version = client.get_model_version("natural-disasters-target", "1")
    assert version.tags["headstart.source_model"] == "torchvision://vgg16/IMAGENET1K_V1"
    picture = "data/natural_disasters/flood/0.jpg"
    done = headstart(place, "predict", "models:/natural-disasters-target/1", picture)
    assert done.returncode == 0, done.stderr
    path, label, probability = done.stdout.strip().split("\t")
    assert path == picture
    assert label in ("cyclone", "earthquake", "flood", "wildfire")
    assert 0.25 <= float(probability) <= 1
