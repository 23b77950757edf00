"""Which split a sample goes to: a function of its content and the seed, so that adding files moves no old one."""

import math
from collections.abc import Mapping, Sequence

from headstart.data.dataset import SPLITS
from headstart.errors import InputError

MIN_EXPECTED = 10
"""A class is shared out by thresholds where each split expects this many of its contents or more.

Then a split ends up empty in fewer than 1 of 20 000 classes (e^-10) and misses its share by a third at one
standard deviation at the most; below that, ranks give every split its exact share.
"""


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """The shares of all three splits, absent ones 0; InputError unless they sum to 1 and train and test have some."""
    unknown = sorted(set(shares) - set(SPLITS))
    if unknown:
        raise InputError(f"split: '{unknown[0]}' is not a split; give shares for train, val and test.")
    complete = {name: float(shares.get(name, 0.0)) for name in SPLITS}
    for name, share in complete.items():
        if not 0 <= share <= 1:
            raise InputError(f"split.{name}: {share:g} is not a share; give a number from 0 to 1.")
    if not math.isclose(sum(complete.values()), 1, abs_tol=1e-6):
        raise InputError(f"split: the shares sum to {sum(complete.values()):g}; make train, val and test sum to 1.")
    for name in ("train", "test"):
        if complete[name] == 0:
            raise InputError(f"split.{name}: the share is 0; {name} needs samples, so give it a share above 0.")
    return complete


def is_small(contents: int, shares: Mapping[str, float]) -> bool:
    """Whether a class of so many distinct contents is ranked: some split would expect fewer than MIN_EXPECTED."""
    return contents * min(share for share in shares.values() if share > 0) < MIN_EXPECTED


def assign(positions: Sequence[float], shares: Mapping[str, float]) -> list[str]:
    """The split of each distinct content of one class, given their positions in [0, 1).

    The unit interval is cut in the order train, val, test by the shares. A class that `is_small` is cut by
    rank instead: in the order of positions, as many contents for each split as `_counts` says.
    """
    order = [name for name in SPLITS if shares.get(name, 0) > 0]
    if not is_small(len(positions), shares):
        bounds = [sum(shares[name] for name in order[: end + 1]) for end in range(len(order) - 1)]
        return [order[sum(position >= bound for bound in bounds)] for position in positions]
    counts = _counts(len(positions), {name: shares[name] for name in order})
    by_rank = [name for name in order for _ in range(counts[name])]
    ranked = sorted(range(len(positions)), key=positions.__getitem__)
    split_of = dict(zip(ranked, by_rank, strict=True))
    return [split_of[index] for index in range(len(positions))]


def _counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How `total` contents are shared out: one each for train, test and val in this order, as far as they go.

    Each further one goes to the split that lies furthest below its share.
    """
    counts = dict.fromkeys(shares, 0)
    for name in [name for name in ("train", "test", "val") if name in shares][:total]:
        counts[name] = 1
    while sum(counts.values()) < total:
        counts[max(shares, key=lambda name: shares[name] * total - counts[name])] += 1
    return counts
