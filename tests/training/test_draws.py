import numpy as np
from scipy import stats

from headstart.training import draws
from headstart.training.draws import seed_of, uniforms


def test_a_sample_has_the_same_draws_in_whatever_company_it_is():
    together = uniforms(3, 2, np.arange(100), 6)
    chosen = np.array([71, 5, 40])
    assert np.array_equal(uniforms(3, 2, chosen, 6), together[chosen])
    assert np.array_equal(uniforms(3, 2, chosen, 4), together[chosen, :4])


def test_draws_differ_between_seeds_epochs_samples_and_positions():
    values = np.concatenate([uniforms(seed, epoch, np.arange(500), 6).ravel() for seed in (0, 1) for epoch in (1, 2)])
    # Of 12 000 draws of 24 bits about four coincide by chance.
    assert len(np.unique(values)) > len(values) - 20


def test_draws_are_uniform_and_neither_neighbours_nor_epochs_are_alike():
    draws = uniforms(0, 1, np.arange(20_000), 3)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    next_epoch = uniforms(0, 2, np.arange(20_000), 3)
    pairs = [(draws[:-1, 0], draws[1:, 0]), (draws[:, 0], draws[:, 1]), (draws[:, 0], next_epoch[:, 0])]
    assert max(abs(np.corrcoef(one, other)[0, 1]) for one, other in pairs) < 0.03


def test_a_number_is_mixed_as_an_array_is():
    numbers = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    assert [draws._mixed_number(int(number)) for number in numbers] == draws._mixed(numbers).tolist()


def test_seeds_of_places_differ_and_fit_a_generator():
    seeds = {seed_of(seed, epoch, step) for seed in range(5) for epoch in range(20) for step in range(20)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    assert seed_of(1, 2, 3) != seed_of(1, 3, 2)
