import numpy as np
import pytest

from headstart.training.batches import LANES, batch_count, epoch_batches, shares, smallest_share


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


def in_blocks(count: int, size: int) -> np.ndarray:
    return np.arange(count) // size


def test_samples_in_blocks_come_once_an_epoch_in_an_order_of_its_own():
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(1000, 32, seed=seed, epoch=epoch, blocks=in_blocks(1000, 7))).tolist()

    assert sorted(order(0, 1)) == list(range(1000))
    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2) != order(1, 2)


@pytest.mark.parametrize(("blocks", "size"), [(480, 20), (500, 20), (100, 33), (20, 5), (1, 40)])
def test_a_block_is_read_within_one_stretch_of_an_epoch(blocks, size):
    """No more than a block of each lane is in use at a time, so that each is read once."""
    block_of = in_blocks(blocks * size, size)
    order = block_of[np.concatenate(epoch_batches(blocks * size, 64, seed=0, epoch=3, blocks=block_of))]
    in_use = np.zeros(len(order) + 1, dtype=int)
    for block in range(blocks):
        places = np.flatnonzero(order == block)
        in_use[places[0]] += 1
        in_use[places[-1] + 1] -= 1
    assert np.cumsum(in_use).max() <= LANES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_share_samples_in_blocks_evenly_and_each_reads_its_own_blocks(size, accumulate):
    block_of = in_blocks(5000, 10)
    reads: list[set[int]] = [set() for _ in range(size)]
    for epoch in (1, 2):
        for batch in epoch_batches(5000, 128, seed=0, epoch=epoch, blocks=block_of):
            taken = [shares(batch, accumulate, rank, size, block_of) for rank in range(size)]
            for number, micro_batch in enumerate(np.array_split(batch, accumulate)):
                parts = [taken[rank][number] for rank in range(size)]
                assert sorted(np.concatenate(parts)) == sorted(micro_batch)
                assert max(map(len, parts)) - min(map(len, parts)) <= -(-len(micro_batch) // size) // 2
            for rank in range(size):
                reads[rank] |= set(block_of[np.concatenate(taken[rank])].tolist())
    assert sum(map(len, reads)) == 500 == len(set.union(*reads))


def test_the_smallest_share_is_that_of_a_process_without_a_lane():
    block_of = in_blocks(60, 30)
    batches = epoch_batches(60, 20, seed=0, epoch=1, blocks=block_of)
    assert smallest_share(batches, 1, 2, block_of) == 10
    assert smallest_share(batches, 2, 2, block_of) == 5
    assert smallest_share(batches, 1, 3, block_of) == 0


def test_a_batch_of_samples_in_blocks_is_as_random_as_any():
    """Of samples that lie in random order, a batch holds as many of a class as chance has it."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 50_000)

    def spread(blocks: np.ndarray | None) -> float:
        batches = epoch_batches(50_000, 100, seed=0, epoch=1, blocks=blocks)
        return float(np.std([np.bincount(labels[batch], minlength=10) for batch in batches], axis=0).mean())

    assert spread(in_blocks(50_000, 50)) == pytest.approx(spread(None), rel=0.05)
