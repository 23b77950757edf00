import numpy as np
import pytest
import torch

from headstart.data.dataset import Split
from headstart.training.batches import training_batches


def numbered(count: int, side: int = 8) -> Split:
    """Samples whose label is their position, and whose pixels are random but for the first, which repeats it."""
    samples = np.random.default_rng(0).integers(0, 256, (count, side, side, 1), dtype=np.uint8)
    samples[:, 0, 0, 0] = np.arange(count)
    nothing = np.array([""] * count)
    return Split("train", samples, np.arange(count), nothing, nothing)


def epoch_of(split, *, batch_size=32, augmentation="none", flip=False, seed=0, epoch=1):
    return list(
        training_batches(
            split,
            modality_name="image",
            batch_size=batch_size,
            augmentation=augmentation,
            flip=flip,
            seed=seed,
            epoch=epoch,
        )
    )


def equal(one, other) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) and torch.equal(m, n) for (a, m), (b, n) in pairs)


def test_an_epoch_shows_every_sample_once_beside_its_label():
    batches = epoch_of(numbered(100))
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels.tolist()) == list(range(100))
    assert labels.tolist() != list(range(100))
    samples = torch.cat([samples for samples, _ in batches])
    assert samples[:, 0, 0, 0].tolist() == labels.tolist()
    assert samples.dtype == torch.uint8
    assert samples.shape == (100, 8, 8, 1)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("count", [2, 3, 5, 33, 64, 65])
def test_no_batch_has_one_sample_and_sizes_differ_by_at_most_one(count, batch_size):
    sizes = [len(labels) for _, labels in epoch_of(numbered(count), batch_size=batch_size)]
    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == count
    # A network with batch-norm cannot take less than a pair; above that the batch size is the most.
    assert max(sizes) <= max(batch_size, 3)


@pytest.mark.parametrize(("augmentation", "flip"), [("none", False), ("crop", False), ("affine", True)])
def test_order_and_augmentation_are_functions_of_seed_and_epoch(augmentation, flip):
    split, method = numbered(40), {"augmentation": augmentation, "flip": flip}
    torch.manual_seed(1)
    np.random.seed(1)
    first = epoch_of(split, seed=3, epoch=2, **method)
    torch.manual_seed(2)
    np.random.seed(2)
    epoch_of(split, seed=3, epoch=1, **method)
    assert equal(epoch_of(split, seed=3, epoch=2, **method), first)
    assert not equal(epoch_of(split, seed=4, epoch=2, **method), first)
    assert not equal(epoch_of(split, seed=3, epoch=3, **method), first)


def test_augmentation_differs_between_the_batches_of_an_epoch_and_between_epochs():
    split = numbered(8, side=16)
    split.samples[:] = split.samples[:1]
    shown = [
        samples for epoch in (1, 2) for samples, _ in epoch_of(split, batch_size=4, augmentation="affine", epoch=epoch)
    ]
    pictures = {samples[i].numpy().tobytes() for samples in shown for i in range(4)}
    assert len(pictures) == 16


def test_batches_leave_the_random_state_and_the_samples_as_they_were():
    split = numbered(20)
    before = split.samples.copy()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for samples, _ in epoch_of(split, augmentation="affine", flip=True):
        samples.zero_()
    epoch_of(split)[0][0].zero_()
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(split.samples, before)
