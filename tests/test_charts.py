import numpy as np
import pytest

from headstart.charts import Axis, heat_paths, polyline


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.53, 0.88], ["0.5", "0.6", "0.7", "0.8", "0.9"]),
        ([0.0, 0.097], ["0.00", "0.05", "0.10"]),
        ([-0.29, 0.0], ["-0.3", "-0.2", "-0.1", "0.0"]),
        ([0.1, 0.3], ["0.10", "0.15", "0.20", "0.25", "0.30"]),
        ([1, 20], ["0", "5", "10", "15", "20"]),
        ([0.4, 0.4], ["0.35", "0.40", "0.45"]),
    ],
)
def test_an_axis_has_round_ticks_around_its_values(values, labels):
    axis = Axis.spanning(values)
    assert [axis.label(tick) for tick in axis.ticks] == labels
    assert axis.low <= min(values) <= max(values) <= axis.high


def test_epochs_are_never_split():
    axis = Axis.spanning([0, 2], least_step=1)
    assert [axis.label(tick) for tick in axis.ticks] == ["0", "1", "2"]


def test_a_gain_is_labelled_with_its_sign_and_zero_without():
    axis = Axis.spanning([-0.1, 0.1])
    assert [axis.label(tick, signed=True) for tick in axis.ticks] == ["-0.10", "-0.05", "0.00", "+0.05", "+0.10"]


def test_a_polyline_runs_from_the_lower_left_to_the_upper_right():
    assert polyline([(0, 0.0), (5, 0.5), (10, 1.0)], Axis(0, 10, 5), Axis(0, 1, 0.5)) == "0,100 50,50 100,0"


def test_a_single_epoch_is_still_visible():
    assert polyline([(1, 0.5)], Axis(0, 1, 1), Axis(0, 1, 0.5)) == "100,50 100,50"


def test_every_cell_that_is_not_empty_is_drawn_once_and_a_fuller_one_is_not_fainter():
    paths = heat_paths(np.array([[1.0, 0.0], [0.01, 0.99]]))
    assert "".join(path for _, path in paths).count("M") == 3
    opacity = {square: level for level, path in paths for square in path.removesuffix("z").split("z")}
    assert opacity["M0 1h1v1h-1"] < opacity["M1 1h1v1h-1"] <= opacity["M0 0h1v1h-1"] == 1
