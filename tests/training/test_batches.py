import numpy as np
import pytest

from headstart.training.batches import batch_count, epoch_batches, shares


def test_an_epoch_shows_every_sample_once_and_shuffled():
    order = np.concatenate(epoch_batches(100, 32, seed=0, epoch=1))
    assert sorted(order) == list(range(100))
    assert list(order) != list(range(100))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("count", [2, 3, 5, 33, 64, 65])
def test_no_batch_has_one_sample_and_sizes_differ_by_at_most_one(count, batch_size):
    sizes = [len(batch) for batch in epoch_batches(count, batch_size, seed=0, epoch=1)]
    assert len(sizes) == batch_count(count, batch_size)
    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == count
    # A network with batch-norm cannot take less than a pair; above that the batch size is the most.
    assert max(sizes) <= max(batch_size, 3)


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch, noise):
        np.random.seed(noise)
        return np.concatenate(epoch_batches(40, 8, seed=seed, epoch=epoch)).tolist()

    assert order(3, 2, noise=1) == order(3, 2, noise=2)
    assert order(3, 2, noise=1) != order(4, 2, noise=1)
    assert order(3, 2, noise=1) != order(3, 3, noise=1)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_shares_of_all_processes_are_the_batch(size, accumulate):
    (batch,) = epoch_batches(13, 13, seed=0, epoch=1)
    taken = [shares(batch, accumulate, rank, size) for rank in range(size)]
    micro_batches = [np.concatenate(pieces) for pieces in zip(*taken, strict=True)]
    assert len(micro_batches) == accumulate
    assert np.array_equal(np.concatenate(micro_batches), batch)
    sizes = [len(piece) for pieces in taken for piece in pieces]
    assert max(sizes) - min(sizes) <= 2
