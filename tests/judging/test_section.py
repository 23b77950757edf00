import pytest

from headstart.errors import InputError
from headstart.judging.section import Evaluation


def test_the_points_of_the_curve_are_a_list_and_survive_as_json():
    section = Evaluation.of({"curve": [5, 10]}, at="evaluation")
    assert section.curve == (5, 10)
    assert Evaluation.of(section.model_dump(mode="json"), at="evaluation") == section


def test_whole_numbers_come_back_from_kfp_as_floats_and_are_whole_again():
    section = Evaluation.of({"curve": [5.0, 10.0], "seeds": 3.0, "robustness": 50.0}, at="evaluation")
    assert (section.curve, section.seeds, section.robustness) == ((5, 10), 3, 50)
    assert all(isinstance(size, int) for size in section.curve)


def test_an_empty_list_switches_the_curve_off():
    assert Evaluation.of({"curve": []}, at="evaluation").curve == ()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"curve": [0]}, "curve"),
        ({"curve": 5}, "curve"),
        ({"curve": [2.5]}, "curve"),
        ({"robustness": -1}, "robustness"),
        ({"explanations": 1000}, "explanations"),
        ({"curve": [], "curve_training": True}, "curve_training needs points"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(values, place):
    with pytest.raises(InputError, match=place):
        Evaluation.of(values, at="evaluation")
