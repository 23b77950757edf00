"""Learning without labels: the loss, and what a training by them is and is not."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State
from headstart.training.context import RunContext
from headstart.training.engine import CHECKPOINT_VARIABLE
from headstart.training.objectives.vicreg import learn_views, projector, vicreg_loss
from headstart.training.plan import Plan, make_plan
from headstart.training.section import Training
from headstart.training.self_supervised import ViewLoss, fit_views
from headstart.training.trained import Trained
from headstart_pipelines.demo import digits, write_folder

SPEED = {"precision": "fp32", "layout": "contiguous", "compile": "off"}

# The loss


def embeddings(samples: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of each sample, alike but not the same."""
    generator = np.random.default_rng(seed)
    one = generator.normal(0.3, 1.0, (samples, width)) * np.linspace(0.2, 2.0, width)
    return one, one + generator.normal(0.0, 0.4, (samples, width))


def vicreg(one: np.ndarray, two: np.ndarray) -> float:
    """Bardes et al. 2022, algorithm 1."""
    samples, width = one.shape
    invariance = sum((a - b) ** 2 for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
    total = 25.0 * invariance / (samples * width)
    for view in (one, two):
        means = view.sum(axis=0) / samples
        for d in range(width):
            variance = sum((x[d] - means[d]) ** 2 for x in view) / (samples - 1)
            total += 25.0 * max(0.0, 1.0 - np.sqrt(variance + 1e-4)) / width
            for e in range(width):
                covariance = sum((x[d] - means[d]) * (x[e] - means[e]) for x in view) / (samples - 1)
                total += 1.0 * (covariance**2 if d != e else 0.0) / width
    return total


@pytest.mark.parametrize(("samples", "width"), [(2, 3), (7, 5), (12, 4)])
def test_the_vicreg_loss_is_that_of_the_paper(samples, width):
    one, two = embeddings(samples, width)
    assert float(vicreg_loss(torch.tensor(one), torch.tensor(two))) == pytest.approx(vicreg(one, two), rel=1e-5)


COLLAPSED = {
    "one point": torch.ones(6, 4),
    "the origin": torch.zeros(6, 4),
    "one point each": torch.arange(6.0)[:, None].expand(6, 4).clone(),
    "far apart": 1e6 * torch.eye(6, 4),
}


@pytest.mark.parametrize("case", COLLAPSED)
def test_loss_and_gradients_are_finite_even_where_embeddings_have_collapsed(case):
    one, two = (COLLAPSED[case].clone().requires_grad_() for _ in range(2))
    loss = vicreg_loss(one, two)
    loss.backward()
    for values in (loss, one.grad, two.grad):
        assert torch.isfinite(values).all()


def test_the_loss_is_taken_in_float32_whatever_the_embeddings_are_in():
    one, two = (torch.tensor(values).bfloat16() for values in embeddings(8, 4))
    found = vicreg_loss(one, two)
    assert found.dtype == torch.float32
    assert torch.equal(found, vicreg_loss(one.float(), two.float()))


# A training


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """160 handwritten digits in a folder a split and a folder a digit in each."""
    images, labels = digits()
    root = tmp_path_factory.mktemp("digits")
    for split, part in {"train": slice(0, 96), "val": slice(96, 128), "test": slice(128, 160)}.items():
        write_folder(images[part], labels[part], root / "pictures" / split)
    return root


@pytest.fixture(scope="module")
def labelled(pictures) -> Dataset:
    return _pack(pictures, "required")


@pytest.fixture(scope="module")
def unlabelled(pictures) -> Dataset:
    return _pack(pictures, "none")


def _pack(root: Path, labels: Any) -> Dataset:
    split = {"train": 0.6, "val": 0.2, "test": 0.2}
    return prepare(Data.of({"uri": str(root / "pictures"), "size": 16, "split": split}), root / labels, labels=labels)


def untrained(dataset: Dataset) -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        network=convnet(classes=0, channels=1),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(dataset.split("train").samples, size=16, channels=1),
        classes=(),
        provenance={"role": "source", "head": "none"},
    )


def views(**settings: Any) -> Plan:
    values = {"epochs": 3, "batch_size": 32, "learning_rate": 3e-3, **SPEED, **settings}
    return replace(make_plan(Training.of(values), np.zeros(96, dtype=np.int64), pretrained=False), augmentation="views")


def train(dataset: Dataset, plan: Plan, loss: Any = vicreg_loss, **options: Any) -> tuple[ModelBundle, Trained]:
    bundle = untrained(dataset)
    context = RunContext(**{"seed": 3, **options})
    return bundle, fit_views(bundle, dataset, plan, context, ViewLoss("vicreg", loss, projector))


def state(bundle: ModelBundle) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in bundle.network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_does_better_than_embeddings_that_tell_nothing_apart(unlabelled):
    """The loss of which is known, and random stages are close to it."""
    samples = unlabelled.counts["val"]
    collapsed = float(vicreg_loss(torch.ones(samples, 4), torch.ones(samples, 4)))
    told = {}
    _, fitted = train(unlabelled, views(epochs=12), on_epoch=lambda epoch, metrics: told.update({epoch: metrics}))
    assert told[0]["val/loss"] == pytest.approx(collapsed, rel=0.01)
    assert -fitted.validation < 0.92 * collapsed


def test_labels_have_no_part_in_it(labelled, unlabelled):
    """The same samples with class folders and without give the same stages bit for bit."""
    assert labelled.classes
    assert not unlabelled.classes
    (with_labels, fitted), (without, fitted_without) = (train(dataset, views()) for dataset in (labelled, unlabelled))
    assert same(state(with_labels), state(without))
    assert fitted.history == fitted_without.history
    assert not same(state(with_labels), state(untrained(labelled)))


def test_the_last_epoch_is_kept_whatever_the_loss_on_the_validation_split_does(unlabelled):
    """Under a rate so high that it goes up and down: it does not tell how good features are."""
    bundle, after, told = untrained(unlabelled), {}, {}

    def tell(epoch: int, metrics: dict[str, float]) -> None:
        after[epoch], told[epoch] = state(bundle), metrics

    plan = replace(views(epochs=6, learning_rate=0.3, batch_size=16), patience=1)
    fitted = learn_views(bundle, unlabelled, plan, RunContext(seed=3, on_epoch=tell))
    losses = [told[epoch]["val/loss"] for epoch in range(7)]
    assert losses.index(min(losses)) < 6
    assert fitted.best_epoch == 6
    assert fitted.validation == -losses[-1]
    assert same(state(bundle), after[6])
    assert [set(entry) for entry in fitted.history] == [{"epoch", "train/loss", "val/loss"}] * 6


def test_a_bundle_has_the_stages_and_nothing_of_the_projector(unlabelled, tmp_path):
    bundle, _ = train(unlabelled, views(epochs=1))
    bundle.save(tmp_path / "bundle")
    expected = convnet(classes=0, channels=1).state_dict()
    saved = load_file(tmp_path / "bundle" / "model.safetensors")
    assert {name: value.shape for name, value in saved.items()} == {n: v.shape for n, v in expected.items()}
    assert saved["head.weight"].shape == (0, bundle.network.feature_dim)


def test_another_seed_gives_other_weights(unlabelled):
    one, again, other = (train(unlabelled, views(epochs=1), seed=seed)[0] for seed in (3, 3, 4))
    assert same(state(one), state(again))
    assert not same(state(one), state(other))


def test_progress_tells_losses_and_no_accuracy(unlabelled):
    told = []
    train(unlabelled, views(epochs=2), progress=lambda *values: told.append(values))
    assert [(done, total) for _, done, total, _ in told] == [(1, 2), (2, 2)]
    assert all("loss" in note and "accuracy" not in note for *_, note in told)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_with_nothing_to_compare_with_is_refused(split, unlabelled, monkeypatch):
    bundle = untrained(unlabelled)
    monkeypatch.setitem(unlabelled.manifest["splits"][split], "samples", 1)
    with pytest.raises(InputError, match=rf"{split} split 1 samples.*vicreg compares.*data\.split\.{split}"):
        learn_views(bundle, unlabelled, views(), RunContext())


# Interruptions


class _Killed(BaseException):
    """What no code catches: the process is gone."""


@dataclass
class _Watched:
    """A loss that counts the steps of the training which it is taken in, and may end it at one."""

    loss: Callable[..., torch.Tensor]
    at: int | None = None
    do: Callable[[], None] = lambda: None
    steps: int = 0

    def __call__(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.steps += 1
            if self.steps == self.at:
                self.do()
        return self.loss(one, two)


def _kill() -> None:
    raise _Killed


def _terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def terminable() -> Iterator[None]:
    """SIGTERM ends a step as it does in a pipeline."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("terminable")
@pytest.mark.parametrize("do", [_kill, _terminate])
@pytest.mark.parametrize("ema", [None, 0.8])
def test_a_training_whose_process_ends_after_every_step_ends_the_same(ema, do, unlabelled, tmp_path, monkeypatch):
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "0")
    plan = views(epochs=2, ema=ema)

    def run(place: State | None, at: int | None = None) -> tuple[str, list[dict[str, float]], int]:
        watched = _Watched(vicreg_loss, at, do)
        bundle, fitted = train(unlabelled, plan, watched, state=place)
        return bundle.save(tmp_path / "bundle"), fitted.history, watched.steps

    digest, history, steps = run(None)
    assert steps >= 6
    place, ends = State(str(tmp_path / "state")), 0
    while True:
        try:
            last = run(place, 2 if do is _kill else 1)
            break
        except (_Killed, SystemExit):
            ends += 1
            assert ends <= steps
    assert ends >= steps - 1
    assert last[:2] == (digest, history)
