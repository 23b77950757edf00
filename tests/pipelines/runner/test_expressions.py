"""Conditions and parts of values, as KFP's compiler writes them."""

import pytest

from headstart.errors import InputError
from headstart_pipelines.runner.expressions import holds, part

GIVEN = {"pipelinechannel--n": 3, "pipelinechannel--word": "it's", "pipelinechannel--flag": True}


def named(name: str) -> str:
    return f"inputs.parameter_values['pipelinechannel--{name}']"


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        (f"{named('n')} == 3", True),
        (f"int({named('n')}) > 3", False),
        (f"{named('n')} >= 3.0 && {named('n')} != 4", True),
        (f"{named('word')} == 'it\\'s'", True),
        (f"!({named('n')} < 2) && !({named('word')} == 'x')", True),
        (f"{named('flag')} == true", True),
        (f"!{named('flag')} || ({named('n')} <= -1)", False),
        (f"string({named('n')}) == '3'", True),
    ],
)
def test_a_condition_is_decided(condition, answer):
    assert holds(condition, GIVEN) is answer


@pytest.mark.parametrize(
    "condition",
    ["__import__('os').system('x')", "1 == ", "1 == 1)", f"{named('absent')} == 1", f"{named('word')} > 3", "1 + 1"],
)
def test_a_condition_of_another_form_is_refused(condition):
    with pytest.raises(InputError, match="condition"):
        holds(condition, GIVEN)


@pytest.mark.parametrize(
    ("expression", "value", "found"),
    [
        ('parseJson(string_value)["a"]', {"a": 1}, 1),
        ('parseJson(string_value)["a"]["b"]', '{"a": {"b": "c"}}', "c"),
        ("parseJson(string_value)[1]", [1, 2], 2),
    ],
)
def test_a_part_of_a_value_is_found(expression, value, found):
    assert part(expression, value) == found


@pytest.mark.parametrize(("expression", "value"), [('parseJson(string_value)["a"]', {}), ("eval(x)", {})])
def test_a_part_that_is_not_there_is_said(expression, value):
    with pytest.raises(InputError, match="package"):
        part(expression, value)
