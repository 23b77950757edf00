import numpy as np
import pytest
import torch

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.strategies.interpolation import interpolate, refresh_batch_norm


@pytest.fixture
def bundle(renamed) -> ModelBundle:
    """A random convnet for the three classes."""
    torch.manual_seed(0)
    preprocessing = Preprocessing.fit(renamed.split("train").samples, size=16, channels=1)
    return ModelBundle(convnet(classes=3, channels=1).eval(), "convnet", "image", preprocessing, renamed.classes)


def state(bundle) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in bundle.network.state_dict().items()}


def moved(bundle, amount: float = 0.1) -> dict[str, torch.Tensor]:
    """The state before, after which all weights of `bundle` go somewhere else."""
    before = state(bundle)
    with torch.no_grad():
        for parameter in bundle.network.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.ndim))
        bundle.network.stages[0][1].running_mean += 1.0
    return before


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_no_share_of_the_fine_tuned_weights_is_the_start_and_all_of_it_what_was_fine_tuned(bundle, renamed):
    before = moved(bundle)
    after = state(bundle)
    assert interpolate(bundle, before, renamed, 1.0, metric="accuracy") == 1.0
    assert same(state(bundle), after)
    assert interpolate(bundle, before, renamed, 0.0, metric="accuracy") == 0.0
    assert same(state(bundle), before)


def test_weights_between_lie_on_the_line_at_the_share_asked_for(bundle, renamed):
    before = moved(bundle)
    after = state(bundle)
    interpolate(bundle, before, renamed, 0.3, metric="accuracy")
    for name, parameter in bundle.network.named_parameters():
        assert torch.allclose(parameter, 0.7 * before[name] + 0.3 * after[name], atol=1e-6)


def test_batch_norms_between_have_the_statistics_of_the_weights_between(bundle, renamed):
    before = moved(bundle)
    interpolate(bundle, before, renamed, 0.5, metric="accuracy")
    assert not bundle.network.training
    seen = {}
    norm = bundle.network.stages[2].residual[1]
    norm.register_forward_hook(lambda module, inputs, output: seen.update(inputs=inputs[0]))
    bundle.predict_features(renamed.split("train").samples)
    values = seen["inputs"].transpose(0, 1).flatten(1)
    # The maps before this norm went through others, which here use what was kept and not their own batch.
    assert torch.allclose(norm.running_mean, values.mean(dim=1), atol=1e-3)
    assert torch.allclose(norm.running_var, values.var(dim=1), rtol=1e-2)


def test_batch_norms_of_frozen_stages_keep_their_statistics_and_norms_train_on_as_before(bundle, renamed):
    before = state(bundle)
    bundle.network.freeze(2)
    refresh_batch_norm(bundle, renamed.split("train"))
    after = state(bundle)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)
    assert {int(name.split(".")[1]) for name in changed} == {2, 3, 4}
    assert all(m.momentum == 0.1 for m in bundle.network.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_statistics_do_not_depend_on_how_many_samples_are_read_at_once(bundle, renamed, monkeypatch):
    refresh_batch_norm(bundle, renamed.split("train"))
    whole = bundle.network.stages[0][1].running_mean.clone()
    monkeypatch.setattr("headstart.strategies.interpolation._BATCH", 7)
    refresh_batch_norm(bundle, renamed.split("train"))
    assert torch.allclose(bundle.network.stages[0][1].running_mean, whole, atol=1e-2)


def with_head(bundle, bias) -> None:
    """Lets the head say the class of the largest `bias`, whatever it sees."""
    with torch.no_grad():
        bundle.network.head.weight.zero_()
        bundle.network.head.bias.copy_(torch.tensor(bias))


def test_the_share_is_chosen_by_the_metric_on_the_validation_split(bundle, renamed):
    common, rare = np.argsort(-np.bincount(renamed.split("val").labels, minlength=3))[[0, -1]]
    good, bad = np.eye(3)[common], np.eye(3)[rare]
    for first, last, expected in ((good, bad, 0.0), (bad, good, 1.0)):
        with_head(bundle, 2.0 * first)
        before = state(bundle)
        with_head(bundle, 2.0 * last)
        assert interpolate(bundle, before, renamed, "auto", metric="accuracy") in (expected, abs(expected - 0.25))


def test_between_equals_the_loss_decides_and_then_the_shortest_way(bundle, renamed):
    counts = np.bincount(renamed.split("val").labels, minlength=3)
    common = int(counts.argmax())
    # Every share says the same class; the one with the right certainty has the lowest loss.
    right = np.log(counts / counts.sum())
    right[common] += 0.01
    too_sure = right + 8 * np.eye(3)[common]
    with_head(bundle, right)
    before = state(bundle)
    with_head(bundle, too_sure)
    assert interpolate(bundle, before, renamed, "auto", metric="accuracy") == 0.0
    with_head(bundle, too_sure)
    before = state(bundle)
    with_head(bundle, right)
    assert interpolate(bundle, before, renamed, "auto", metric="accuracy") == 1.0
    # Nothing moved: every share is as good as any.
    with_head(bundle, right)
    assert interpolate(bundle, state(bundle), renamed, "auto", metric="accuracy") == 0.0
