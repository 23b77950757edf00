import logging
import multiprocessing
import os
import signal
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.features import cache, frozen_stages
from headstart.features.extraction import vectors
from headstart.features.frozen_stages import FrozenOutputs, FrozenStages
from headstart.features.stage_feed import StageFeed
from headstart.modalities import modality
from headstart.modalities.preprocessing import Preprocessing
from headstart.storage import digests
from headstart.storage.digests import file_digest
from headstart.storage.state import State
from headstart.training import speed, timings
from headstart.training.draws import uniforms
from headstart.training.feed import SampleFeed
from headstart.training.plan import make_plan
from headstart.training.section import Training
from headstart.training.timings import Timings

STAGES = range(1, 5)


@pytest.fixture
def state(tmp_path):
    return State(str(tmp_path / "state"))


@pytest.fixture
def plan(known):
    def make(**settings):
        values = {"epochs": 8, "batch_size": 8, "precision": "fp32", **settings}
        return make_plan(Training.of(values), known.split("train").labels, pretrained=True)

    return make


@pytest.fixture
def computed(monkeypatch):
    """How many samples went through frozen stages so far."""
    counts = []
    outputs = FrozenOutputs._outputs

    def counted(self, stages, inputs, speed):
        counts.append(len(inputs))
        return outputs(self, stages, inputs, speed)

    monkeypatch.setattr(FrozenOutputs, "_outputs", counted)
    return lambda: sum(counts)


def files(state, pattern="?" * 32):
    return sorted((state.folder / "features").glob(f"*/{pattern}"))


# Feature vectors.


def test_vectors_are_what_the_network_makes_of_the_samples(source, known, state):
    split = known.split("train")
    expected = source.predict_features(split.samples)
    for where in (None, state):
        found = vectors(source, split, where)
        assert found.shape == (len(split.labels), source.network.feature_dim)
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 0


# A device by another name is another one, as a GPU is for a network in memory.
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_a_network_that_trains_is_left_in_its_modes(source, known, monkeypatch, device):
    monkeypatch.setattr(frozen_stages, "training_device", lambda: torch.device(device))
    network = source.network.train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    norms[0].eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}

    found = vectors(source, known.split("train"))

    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    network.eval()
    assert np.array_equal(vectors(source, known.split("train")), found)


def test_they_are_computed_once_for_all_that_share_a_state(source, source_path, known, state, computed):
    split = known.split("train")
    first = vectors(source, split, state)
    assert computed() == len(split.labels)
    # Another bundle with the same weights, in another process say, finds them.
    again = vectors(type(source).load(source_path), split, State(str(state.folder)))
    assert computed() == len(split.labels)
    assert again.tobytes() == first.tobytes()


@pytest.mark.parametrize("change", ["weights", "preprocessing", "samples", "precision"])
def test_what_decides_them_decides_which_are_found(source, known, state, computed, change):
    vectors(source, known.split("train"), state)
    before, split, precision = computed(), known.split("train"), "auto"
    if change == "weights":
        with torch.no_grad():
            next(source.network.stages.parameters()).flatten()[0] += 1
    elif change == "preprocessing":
        source.preprocessing = type(source.preprocessing)(size=20, channels=1, mean=(0.5,), std=(0.5,))
    elif change == "samples":
        split = known.split("val")
    else:
        precision = "fp32"
    vectors(source, split, state, precision=precision)
    assert computed() > before


def test_the_head_and_the_names_of_the_classes_do_not(source, known, state, computed):
    vectors(source, known.split("train"), state)
    before = computed()
    source.network.replace_head(3)
    vectors(replace(source, classes=("a", "b", "c")), known.split("train"), state)
    assert computed() == before


@pytest.mark.parametrize(("seconds", "faster"), [(0.5, "bf16"), (0.95, "fp32")])
def test_much_work_is_done_in_the_precision_in_which_these_stages_measure_faster(
    source, known, state, tmp_path, monkeypatch, seconds, faster
):
    def timed(network, inputs, candidates):
        timed_shapes.append(tuple(inputs.shape))
        return Timings({one: seconds if one.precision == "bf16" else 1.0 for one in candidates}, cost=0.1)

    def outputs(self, stages, inputs, chosen):
        used.append(chosen.precision)
        return computed(self, stages, inputs, chosen)

    timed_shapes, used, computed = [], [], FrozenOutputs._outputs
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(timings, "_remembered", {})
    monkeypatch.setattr(speed, "time_forward", timed)
    monkeypatch.setattr(FrozenOutputs, "_outputs", outputs)
    for module in (speed, frozen_stages):
        monkeypatch.setattr(module, "precisions", lambda device: ["fp32", "bf16"])
    train, val = known.split("train"), known.split("val")
    operations = FrozenStages(source, len(source.network.stages), "auto", rows=1).operations
    monkeypatch.setattr(frozen_stages, "_MEASURED_OPERATIONS", operations * len(train.labels))
    vectors(source, val)
    assert (timed_shapes, set(used)) == ([], {"fp32"})
    used.clear()
    vectors(source, train, state)
    # What was measured once holds in another process too, and for the few samples of validation.
    timings._remembered.clear()
    vectors(source, val, state)
    assert timed_shapes == [(4, 1, 16, 16)]
    assert set(used) == {faster}


@pytest.mark.parametrize("damage", ["cut", "emptied", "foreign", "one bit"])
def test_what_is_damaged_is_made_again(source, known, state, caplog, damage):
    split = known.split("train")
    first = vectors(source, split, state).copy()
    (file,) = files(state)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "emptied":
        file.write_bytes(b"")
    elif damage == "one bit":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        with file.open("wb") as other:
            np.save(other, np.zeros((3, 3), np.float32))
    caplog.set_level(logging.WARNING)
    assert vectors(source, split, state).tobytes() == first.tobytes()
    assert "is damaged" in caplog.text
    assert vectors(source, split, state).tobytes() == first.tobytes()
    assert len(caplog.records) == 1


def test_kept_features_are_read_for_their_digest_once_a_process(source, known, state, monkeypatch):
    split = known.split("train")
    vectors(source, split, state)
    read = []
    monkeypatch.setattr(digests, "file_digest", lambda path, end: read.append(path) or file_digest(path, end))
    for _ in range(3):
        vectors(source, split, state)
    assert len(read) == 1


@pytest.fixture
def small_batches(monkeypatch):
    """Eight samples at once, and a note after each batch of how far the computation is."""
    monkeypatch.setattr(Preprocessing, "samples_at_once", lambda self, device: 8)
    monkeypatch.setattr(cache, "_NOTED_SECONDS", -1)


def killed_after(batches, source, split, state):
    """Computes in a process that is killed once it has written so many batches."""

    def compute():
        torch.set_num_threads(1)
        stored = FrozenOutputs._stored
        left = batches

        def stopping(self, outputs):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return stored(self, outputs)

        FrozenOutputs._stored = stopping
        vectors(source, split, state)

    process = multiprocessing.get_context("fork").Process(target=compute)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_killed_computation_is_gone_on_with(source, known, state, computed, small_batches):
    split = known.split("train")
    expected = vectors(source, split)
    before = computed()
    killed_after(3, source, split, state)
    assert files(state) == []
    assert vectors(source, split, state).tobytes() == expected.tobytes()
    assert computed() - before == len(split.labels) - 3 * 8
    assert files(state, "*") == files(state)


def test_what_it_left_is_not_believed_where_it_is_too_short(source, known, state, computed, small_batches):
    split = known.split("train")
    expected = vectors(source, split)
    killed_after(2, source, split, state)
    (part,) = files(state, "*.part")
    part.write_bytes(part.read_bytes()[:50])
    assert vectors(source, split, state).tobytes() == expected.tobytes()


def test_processes_that_need_the_same_at_once_compute_it_once(source, known, state, tmp_path, small_batches):
    split = known.split("train")
    context = multiprocessing.get_context("fork")
    made = tmp_path / "made"
    made.mkdir()

    def compute():
        torch.set_num_threads(1)
        batches = FrozenOutputs.batches

        def noted(self, *arguments):
            (made / str(os.getpid())).touch()
            yield from batches(self, *arguments)

        FrozenOutputs.batches = noted
        vectors(source, split, state)

    processes = [context.Process(target=compute) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(made.iterdir())) == 1


def test_what_was_read_last_stays_when_room_is_made(source, known, state, monkeypatch):
    vectors(source, known.split("train"), state)
    (train,) = files(state)
    vectors(source, known.split("test"), state)
    (test,) = set(files(state)) - {train}
    os.utime(test, (1, 1))
    vectors(source, known.split("train"), state)
    # Room for two of the three, the test split's being the one that was read the longest time ago.
    monkeypatch.setattr(cache, "_LIMIT", train.stat().st_size + 20 * 4 * source.network.feature_dim + 200)
    found = vectors(source, known.split("val"), state)
    assert train.exists()
    assert not test.exists()
    assert len(found) == len(known.split("val").labels)


def test_where_nothing_fits_they_are_computed_and_it_is_said(source, known, state, monkeypatch, caplog):
    monkeypatch.setattr(cache, "_LIMIT", 10)
    caplog.set_level(logging.WARNING)
    found = vectors(source, known.split("train"), state)
    assert np.allclose(found, source.predict_features(known.split("train").samples), rtol=1e-4, atol=1e-5)
    assert "cannot be kept" in caplog.text
    assert files(state) == []


# Feature maps for training.


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kept", [True, False])
def test_without_augmentation_a_batch_is_what_the_frozen_stages_make_of_it(source, known, plan, state, stage, kept):
    settings = plan(augmentation="none")
    feed = StageFeed(source, known, settings, stage, 0, state if kept else None)
    chosen = np.array([5, 0, 11])
    whole = SampleFeed(known, source.preprocessing, settings, seed=0, device=torch.device("cpu"))
    with torch.no_grad():
        expected = source.network.activations(whole.batch(chosen, 1))[stage - 1]
        validation = torch.cat(list(whole.validation(slice(2, 9))))
        expected_validation = source.network.activations(validation)[stage - 1]
    for epoch in (1, 2):
        assert torch.allclose(feed.batch(chosen, epoch), expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(torch.cat(list(feed.validation(slice(2, 9)))), expected_validation, rtol=1e-4, atol=1e-5)
    if not kept:
        assert not list((state.folder).glob("features/*"))


def test_validation_is_read_before_anything_is_made_of_the_training_samples(source, known, plan, state, computed):
    feed = StageFeed(source, known, plan(views=3), 2, 0, state)
    assert feed.reason_against() == ""
    assert computed() == 0
    counts = known.counts
    assert sum(len(batch) for batch in feed.validation(slice(0, counts["val"]))) == counts["val"] == computed()
    feed.ready(lambda: None)
    feed.batch(np.arange(3), 1)
    assert computed() == counts["val"] + 3 * counts["train"]


@pytest.mark.usefixtures("small_batches")
def test_a_map_that_was_left_between_two_batches_is_gone_on_with(source, known, plan, state, computed):
    def leave():
        raise KeyboardInterrupt

    feed = StageFeed(source, known, plan(views=2), 2, 0, state)
    with pytest.raises(KeyboardInterrupt):
        feed.ready(leave)
    assert computed() == 8
    feed.ready(lambda: None)
    assert computed() == 2 * known.counts["train"]


def test_with_augmentation_each_view_of_a_sample_comes_once_in_as_many_epochs(source, known, plan, state):
    settings = plan(views=3)
    feed = StageFeed(source, known, settings, 2, 7, state)
    chosen = np.array([4, 9])
    epochs = [feed.batch(chosen, epoch) for epoch in range(1, 7)]
    for sample in range(2):
        seen = [batch[sample].numpy().tobytes() for batch in epochs]
        assert len(set(seen[:3])) == 3
        assert seen[:3] == seen[3:]


def test_a_view_is_the_samples_augmentation_by_its_own_draws(source, known, plan, state):
    settings = plan(views=2)
    feed = StageFeed(source, known, settings, 1, 7, state)
    kind = modality(known.modality)
    chosen = np.array([6])
    samples = torch.from_numpy(np.array(known.split("train").samples[chosen]))
    expected = set()
    for view in range(2):
        draws = torch.from_numpy(uniforms(7, view, chosen, kind.draws_per_sample))
        images = kind.augment(samples, draws, method="affine", strength=settings.strength, flip=False)
        with torch.no_grad():
            expected.add(
                source.network.activations(source.preprocessing(images))[0].round(decimals=3).numpy().tobytes()
            )
    found = {feed.batch(chosen, epoch).round(decimals=3).numpy().tobytes() for epoch in (1, 2)}
    assert found == expected


def test_another_seed_has_other_views(source, known, plan, state):
    one, two = (StageFeed(source, known, plan(views=2), 1, seed, state) for seed in (1, 2))
    assert not torch.equal(one.batch(np.arange(4), 1), two.batch(np.arange(4), 1))


def test_maps_in_bfloat16_take_half_the_space_and_are_close(source, known, plan, state):
    chosen = np.arange(6)
    one = StageFeed(source, known, plan(augmentation="none"), 2, 0, state).batch(chosen, 1)
    size = sum(file.stat().st_size for file in files(state))
    two = StageFeed(source, known, plan(augmentation="none", precision="bf16"), 2, 0, state).batch(chosen, 1)
    assert sum(file.stat().st_size for file in files(state)) - size < 0.6 * size
    assert two.dtype == torch.float32
    assert float((one - two).norm() / one.norm()) < 0.02
    assert not torch.equal(one, two)


def test_what_takes_too_much_space_is_not_kept(source, known, plan, state, monkeypatch):
    settings = plan(augmentation="none")
    assert StageFeed(source, known, settings, 4, 0, state).reason_against() == ""
    monkeypatch.setattr(cache, "_LIMIT", 1000)
    assert "GiB" in StageFeed(source, known, settings, 4, 0, state).reason_against()


def test_as_many_views_as_epochs_save_nothing(source, known, plan, state):
    assert StageFeed(source, known, plan(views=8, epochs=8), 4, 0, state).reason_against()
    assert not StageFeed(source, known, plan(views=4, epochs=8), 4, 0, state).reason_against()


def test_temporary_maps_are_gone_with_their_feed(source, known, plan, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    feed = StageFeed(source, known, plan(augmentation="none"), 2, 0, None)
    assert len(feed.batch(np.arange(3), 1)) == 3
    assert list(tmp_path.glob("tmp*")) == []
