"""What a step says of an artifact reaches the next step through Kubeflow's store."""

import json
import math
from types import SimpleNamespace

import pytest

from headstart.artifacts import describe, described
from tests.pipelines.cluster.backend import kept

VALUES = {"digest": "sha256:1", "count": 3, "share": 0.5, "passed": True, "names": ["a", "b"], "figures": {"a": 1.5}}


def through_the_store(**values):
    """What the next step reads of it."""
    artifact = SimpleNamespace(metadata={})
    describe(artifact, **values)
    written = json.loads(json.dumps(artifact.metadata, allow_nan=False))
    return described(SimpleNamespace(metadata=kept("step", "model", written)))


def test_what_a_step_says_is_what_the_next_one_reads():
    assert through_the_store(**VALUES) == VALUES


def test_it_is_read_alike_where_no_store_lies_between():
    artifact = SimpleNamespace(metadata={})
    describe(artifact, **VALUES)

    assert described(artifact) == VALUES


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_a_value_that_the_store_refuses_is_absent(nothing):
    assert through_the_store(known=1, unknown=nothing) == {"known": 1}


def test_a_list_keeps_its_length_where_one_of_its_numbers_is_none_that_the_store_takes():
    assert through_the_store(losses=[0.5, math.nan]) == {"losses": [0.5, None]}
