import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.modalities.audio import MODALITY
from headstart.modalities.audio.augmentation import AUGMENTATIONS, louder, masked, shifted

augment = MODALITY.augment
METHODS = [*AUGMENTATIONS, "views"]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, MODALITY.draws_per_sample, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch(maps: np.ndarray) -> torch.Tensor:
    return MODALITY.batch(maps)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "none"])
def test_augmentation_keeps_shape_and_type_and_follows_the_draws_of_each_recording(batch, method):
    first, other = (augment(batch, draws(len(batch), seed), method=method) for seed in (1, 2))

    assert (first.shape, first.dtype) == (batch.shape, torch.uint8)
    assert not torch.equal(first, other)
    alone = [augment(batch[i : i + 1], draws(len(batch), 1)[i : i + 1], method=method) for i in range(len(batch))]
    assert torch.equal(torch.cat(alone), first)


@pytest.mark.parametrize("method", METHODS)
def test_without_strength_nothing_changes(batch, method):
    assert torch.equal(augment(batch, draws(len(batch)), method=method, strength=0.0), batch)


@pytest.mark.parametrize("method", METHODS)
def test_the_stored_recordings_stay_as_they_are(batch, method):
    before = batch.clone()

    changed = augment(batch, draws(len(batch)), method=method)
    changed.zero_()

    assert torch.equal(batch, before)


def test_specaugment_is_the_default_and_goes_further_the_stronger_it_is(batch):
    assert next(iter(MODALITY.augmentations)) == "specaugment"
    assert "none" not in MODALITY.augmentations

    changes = [
        (augment(batch, draws(len(batch)), method="specaugment", strength=strength) != batch).float().mean()
        for strength in (0.2, 1.0, 2.0)
    ]

    assert changes[0] < changes[1] < changes[2]


def test_a_shift_moves_frames_and_leaves_silence_behind():
    line = torch.zeros(3, 40, 16, 1, dtype=torch.uint8)
    line[:, 20] = 200

    moved = shifted(line, torch.tensor([0.0, 0.5, 0.999]), 0.25)

    assert moved[..., 0].amax(dim=2).argmax(dim=1).tolist() == [10, 20, 30]
    assert (moved == 200).sum() == 3 * 16


def test_gain_is_the_same_number_of_decibels_everywhere_but_in_silence():
    quiet = torch.tensor([0, 50, 150, 250], dtype=torch.uint8).reshape(1, 4, 1, 1)

    up, down = (louder(quiet, torch.tensor([draw]), 10.0).flatten().tolist() for draw in (1.0, 0.0))

    assert up == [0, 76, 176, 255]
    assert down[0] == 0
    assert down[1:] in ([24, 124, 224], [25, 125, 225])


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mask_covers_one_stretch_of_at_most_its_share(axis):
    batch = torch.arange(2, dtype=torch.uint8).mul(100)[None, :, None, None].repeat(300, 12, 24, 1)
    drawn = draws(300)[:, :2]

    hidden = (masked(batch, drawn, 1 / 6, axis) == 50).all(dim=3 - axis)[..., 0]

    lengths = hidden.sum(dim=1)
    assert set(lengths.tolist()) == {0, 1, 2, 3, 4}
    assert (hidden.diff(dim=1).sum(dim=1) <= 2).all()
    assert hidden.any(dim=0).all(), "any place may be covered, the ends too"


def test_a_recording_cannot_be_mirrored(batch):
    with pytest.raises(InputError, match="flip"):
        augment(batch, draws(len(batch)), method="shift", flip=True)


def test_the_name_of_a_pictures_augmentation_is_refused_with_those_of_recordings():
    with pytest.raises(
        InputError, match="'affine' does not augment recordings; choose one of auto, none, specaugment, shift"
    ):
        MODALITY.require_augmentation("affine")
