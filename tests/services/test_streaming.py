"""A training streams its samples from a real S3 store; it is really killed, and ends as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.data import streamed
from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.data.streamed import StreamedArrays
from headstart.environment import environment
from headstart.errors import HeadstartError
from headstart.jobs.job import pretraining_job, train
from headstart.models.bundle import bundle_digest
from headstart.storage import cache
from headstart.storage.state import STATE_VARIABLE
from headstart.training.context import RunContext
from headstart.training.section import Pretraining
from headstart_pipelines.demo import digits, write_folder
from tests.services.faults import Faults
from tests.services.streaming_training import SECTION

pytestmark = pytest.mark.services

SIZE = 16
# 10 pictures.
BLOCK = 10 * SIZE * SIZE
LIMIT = 160 * BLOCK


@pytest.fixture
def faults(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """With small blocks and a small cache."""
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(LIMIT))
    monkeypatch.setattr(streamed, "BLOCK", BLOCK)
    return faults


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "digits"
    images, labels = digits()
    write_folder(images[:500], labels[:500], folder)
    return folder


@pytest.fixture
def dataset(faults: Faults, pictures: Path, tmp_path: Path) -> Dataset:
    split = {"train": 0.6, "val": 0.2, "test": 0.2}
    with environment({STATE_VARIABLE: "s3://data/state"}):
        return prepare(
            Data.of({"uri": str(pictures), "size": SIZE, "split": split, "stream": "always"}), tmp_path / "packed"
        )


def _training(dataset: Dataset, folder: Path, state: str | None, kill_after: int | None = None) -> int:
    """The steps that a process made; it is killed after some of them, or comes to its end."""
    environment = {**os.environ, "HEADSTART_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"}
    if state:
        environment["HEADSTART_STATE"] = state
    command = [sys.executable, "-m", "tests.services.streaming_training", str(dataset.path), str(folder)]
    steps = 0
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        while process.stdout.read(1):
            steps += 1
            if steps == kill_after:
                process.kill()
        said = process.stderr.read().decode()
    assert process.returncode == (-signal.SIGKILL if kill_after else 0), said
    return steps


def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bundle(dataset, faults, tmp_path):
    """Its checkpoints lie in S3 too. Now and then the store fails, or the machine is another, with an empty cache."""
    steps = _training(dataset, tmp_path / "expected", None)
    faults.choose = lambda path, asked, earlier: (
        "503" if "/blocks/" in path and zlib.crc32(path.encode()) % 5 == earlier else None
    )
    random = np.random.default_rng(0)
    for kill_after in random.integers(2, 10, 6).tolist():
        _training(dataset, tmp_path / "bundle", "s3://data/state", kill_after)
        if random.random() < 0.5:
            shutil.rmtree(tmp_path / "cache")
    assert _training(dataset, tmp_path / "bundle", "s3://data/state") < steps
    assert faults.happened["503"]
    assert bundle_digest(tmp_path / "bundle") == bundle_digest(tmp_path / "expected")
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert kept <= LIMIT


def test_an_epoch_asks_for_each_block_once(dataset, faults, tmp_path):
    samples = dataset.samples("train")
    assert isinstance(samples, StreamedArrays)
    faults.asked.clear()
    # What the data set's report shows has been read.
    shutil.rmtree(tmp_path / "cache")
    count = len(samples[:])
    asked = [count for (path, _), count in faults.asked.items() if "/blocks/" in path]
    assert asked == [1] * -(-count // 10)


@pytest.mark.parametrize("kind", ["wrong", "cut"])
def test_a_block_that_arrives_damaged_is_asked_for_again_and_refused_if_it_stays_so(kind, dataset, faults):
    samples = dataset.samples("val")
    faults.choose = lambda path, asked, earlier: kind if earlier == 0 else None
    assert np.array_equal(samples[:5], dataset.samples("val")[:5])
    assert faults.happened[kind]
    faults.choose = lambda path, asked, earlier: kind
    with pytest.raises(HeadstartError):
        samples[60:]


def test_processes_that_share_a_streamed_training_come_to_the_same_weights(dataset, tmp_path, monkeypatch):
    section = Pretraining.of(SECTION, at="pretraining")
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv("HEADSTART_PROCESSES", processes)
        trained = train(pretraining_job(dataset.path, section), RunContext(seed=5))
        found.append(trained.bundle.network.state_dict())
    for name, value in found[0].items():
        assert torch.allclose(value.float(), found[1][name].float(), rtol=1e-3, atol=1e-4), name
