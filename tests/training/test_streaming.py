"""A training whose samples lie in blocks elsewhere: the same to the last bit however often it is stopped, and it reads
each block once an epoch."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from headstart.data import streamed
from headstart.data.blocks import blocks_of
from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.storage import cache
from headstart.storage.blocks import Blocks
from headstart.storage.state import State
from headstart.training import batches, engine, loader
from headstart.training.context import RunContext
from headstart.training.distributed import Group
from headstart.training.engine import CHECKPOINT_VARIABLE
from headstart.training.supervised import fit
from tests.streamed import streamed as streamed_like

SPEED = {"precision": "fp32", "layout": "contiguous", "compile": "off"}
BASE = {"epochs": 3, "batch_size": 14, "learning_rate": 0.04, "augmentation": "affine", "patience": 9, **SPEED}


class _Killed(BaseException):
    """What no code catches: the process is gone."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def in_blocks(threes_and_eights: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Dataset]:
    """The small data set in blocks of so many pictures."""

    def moved(pictures: int) -> Dataset:
        monkeypatch.setattr(streamed, "BLOCK", pictures * 16 * 16)
        return streamed_like(threes_and_eights, tmp_path / "packed", str(tmp_path / "blocks"))

    return moved


@pytest.fixture
def streamed_digits(in_blocks: Callable[[int], Dataset]) -> Dataset:
    return in_blocks(3)


@pytest.fixture
def run(untrained: Any, plan: Any, tmp_path: Path) -> Callable[..., tuple[str, list[dict[str, float]], int]]:
    """Train on a data set with a state; the digest of the bundle, the history, and the pieces that were computed."""

    def train(dataset: Dataset, state: str | None, kill_at: int | None = None) -> tuple[str, list[Any], int]:
        bundle, seen = untrained(dataset), 0

        def watch(network: torch.nn.Module, *_: Any) -> torch.Tensor:
            nonlocal seen
            seen += 1
            if seen == kill_at:
                raise _Killed
            return network.head.weight.sum() * 0.0

        context = RunContext(seed=3, state=State(str(tmp_path / state)) if state else None)
        fitted = fit(bundle, dataset, plan(dataset, **BASE), context, penalty=watch)
        return bundle.save(tmp_path / "bundle"), fitted.history, seen

    return train


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each block was opened."""
    counts: Counter[tuple[str, int]] = Counter()
    before = Blocks._opened

    def counted(self: Blocks, number: int) -> Any:
        counts[Path(self._of).name, number] += 1
        return before(self, number)

    monkeypatch.setattr(Blocks, "_opened", counted)
    return counts


def test_a_training_that_is_killed_after_any_step_ends_with_the_same_bits(streamed_digits, run, monkeypatch):
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "0")
    digest, history, computed = run(streamed_digits, None)
    assert computed == 9
    for kill_at in range(2, computed + 1):
        with pytest.raises(_Killed):
            run(streamed_digits, f"state-{kill_at}", kill_at)
        # What the dead process had on its disk is of no account.
        if kill_at % 2:
            shutil.rmtree(cache.cache_folder())
        again = run(streamed_digits, f"state-{kill_at}")
        assert again == (digest, history, computed - kill_at + 1)


def test_a_training_does_not_go_on_from_a_checkpoint_of_samples_in_another_order(
    streamed_digits, threes_and_eights, run, monkeypatch
):
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "0")
    expected = run(threes_and_eights, None)
    with pytest.raises(_Killed):
        run(streamed_digits, "state", 5)
    assert run(threes_and_eights, "state") == expected


def test_a_block_is_opened_at_most_once_an_epoch(in_blocks, run, untrained, opened, monkeypatch):
    for module in (batches, loader):
        monkeypatch.setattr(module, "LANES", 3)
    monkeypatch.setattr(streamed, "_HELD", 16)
    dataset = in_blocks(1)
    untrained(dataset)
    by_preprocessing = Counter(opened)
    opened.clear()
    run(dataset, None)
    blocks = dataset.counts["train"]
    times = opened - by_preprocessing
    by_training = [times["train.blocks.npz", number] for number in range(blocks)]
    # What an epoch read last, the next one may find open.
    assert 2 * blocks < sum(by_training)
    assert max(by_training) == BASE["epochs"]


def test_a_training_learns_from_streamed_samples_what_it_learns_from_the_same_on_the_disk(
    streamed_digits, threes_and_eights, run
):
    last = [run(dataset, None)[1][-1] for dataset in (streamed_digits, threes_and_eights)]
    assert last[0]["train/loss"] == pytest.approx(last[1]["train/loss"], abs=0.15)


def test_processes_too_many_for_the_blocks_of_a_batch_are_refused(in_blocks, plan):
    streamed_digits = in_blocks(6)
    settings = plan(streamed_digits, **BASE)
    objective = SimpleNamespace(
        samples=streamed_digits.counts["train"], blocks=blocks_of(streamed_digits.samples("train"))
    )
    running = SimpleNamespace(
        objective=objective, plan=settings, seed=0, name="full", course=SimpleNamespace(epoch=1), group=Group(0, 8)
    )
    with pytest.raises(InputError, match="full: 8 processes cannot share a micro-batch of 14 samples of a store that"):
        engine._Run._batches(running)
    fewer = SimpleNamespace(**{**vars(running), "group": Group(0, 2)})
    assert len(engine._Run._batches(fewer)) == 3
