import json
from dataclasses import asdict

import pytest

from headstart.errors import InputError
from headstart.tracking.names import PROMOTION
from headstart.tracking.promotion import promote
from headstart.tracking.registry import find_version


@pytest.fixture
def second(registry, target):
    """A second version of pets-target that has become the challenger."""
    version = registry.create_model_version("pets-target", "file:///nowhere").version
    registry.set_registered_model_alias("pets-target", "challenger", version)
    return str(version)


def champion(client) -> str:
    return str(find_version(client, "models:/pets-target@champion").version)


def test_the_challenger_becomes_the_champion(registry, target):
    change = promote(registry, "pets-target", reason="helped on the ward")
    assert (change.version, change.previous, change.reason) == ("1", None, "helped on the ward")
    assert champion(registry) == "1"


def test_the_change_is_written_down_on_the_version(registry, second):
    promote(registry, "pets-target", version="1")
    change = promote(registry, "pets-target")
    assert (change.previous, change.version) == ("1", "2")
    tags = registry.get_model_version("pets-target", "2").tags
    assert json.loads(tags[PROMOTION]) == asdict(change)
    assert change.at.endswith("+00:00")
    assert change.by


def test_a_version_can_be_chosen_also_to_go_back(registry, second):
    promote(registry, "pets-target")
    assert promote(registry, "pets-target", version="1").previous == "2"
    assert champion(registry) == "1"


def test_promoting_the_champion_again_changes_nothing(registry, target):
    promote(registry, "pets-target", reason="first")
    before = registry.get_model_version("pets-target", "1")
    again = promote(registry, "pets-target", reason="second")
    assert (again.previous, again.version) == ("1", "1")
    after = registry.get_model_version("pets-target", "1")
    assert (after.tags, after.aliases) == (before.tags, before.aliases)
    assert json.loads(after.tags[PROMOTION])["reason"] == "first"


@pytest.mark.parametrize(
    ("model", "version", "missing"),
    [
        ("cats", None, "models:/cats@challenger"),
        ("pets-source", None, "models:/pets-source@challenger"),
        ("pets-target", "7", "models:/pets-target/7"),
    ],
)
def test_what_does_not_exist_cannot_be_promoted(registry, model, version, missing):
    with pytest.raises(InputError, match=f"The registry has no {missing}; its models are: pets-source, pets-target"):
        promote(registry, model, version=version)
    assert "champion" not in registry.get_registered_model("pets-target").aliases
