import pytest

from headstart.errors import InputError
from headstart.judging.verdict import overall_verdict, verdict
from headstart.metrics.intervals import Interval


@pytest.mark.parametrize(
    ("low", "high", "min_gain", "expected"),
    [
        (0.01, 0.03, 0.0, "helped"),
        (0.0, 0.03, 0.0, "no evidence"),
        (-0.01, 0.03, 0.0, "no evidence"),
        (-0.03, 0.0, 0.0, "no evidence"),
        (-0.03, -0.01, 0.0, "hurt"),
        (0.01, 0.03, 0.01, "no evidence"),
        (0.02, 0.03, 0.01, "helped"),
        (-0.03, -0.01, 0.05, "hurt"),
    ],
)
def test_the_verdict_follows_the_bounds_of_the_interval(low, high, min_gain, expected):
    assert verdict(Interval((low + high) / 2, low, high), min_gain) == expected


def test_a_negative_least_gain_is_refused():
    with pytest.raises(InputError, match="min_gain"):
        verdict(Interval(0.0, 0.0, 0.0), -0.1)


@pytest.mark.parametrize(
    ("over_each", "expected"),
    [
        ([], None),
        (["helped", "helped"], "helped"),
        (["helped", "no evidence"], "no evidence"),
        (["helped", "no evidence", "hurt"], "hurt"),
        (["helped", "hurt"], "hurt"),
    ],
)
def test_a_transfer_has_helped_over_every_baseline_or_not_at_all(over_each, expected):
    assert overall_verdict(over_each) == expected
