"""A strategy, a regulariser, a baseline and an objective from outside are one object each, and a recipe takes them."""

import sys
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from headstart.errors import InputError
from headstart.recipe.recipe import Recipe
from headstart.strategies.baseline import BASELINES, Baseline
from headstart.strategies.pretraining import pretrain
from headstart.strategies.regularizer import REGULARIZERS, Regularizer
from headstart.strategies.section import STRATEGIES, FineTuning, Strategy
from headstart.training.context import RunContext
from headstart.training.objective import OBJECTIVES, PretrainingObjective
from headstart.training.section import Pretraining
from headstart.training.trained import Trained


class Shallow(FineTuning):
    """Trains the first `depth` stages and the head."""

    depth: Annotated[int, Field(ge=1)] = 1

    short_for: ClassVar = {"transfer": "partial"}

    def choose_part(self, task):
        task.bundle.network.train_only(range(self.depth))
        return {"part": f"first {self.depth}"}


@pytest.fixture
def shallow(add_member) -> None:
    add_member(STRATEGIES, "shallow", Shallow)


def recipe(**changes) -> Recipe:
    data = {"uri": "x"}
    return Recipe.of({"name": "x", "source": {"data": data}, "target": {"data": data}, **changes})


@pytest.mark.usefixtures("shallow")
def test_a_strategy_from_outside_has_settings_of_its_own_and_stays_what_it_is_wherever_it_travels():
    read = recipe(strategies=["shallow", {"name": "two", "strategy": "shallow", "depth": 2}])

    assert [(each.name, each.depth, type(each)) for each in read.strategies] == [
        ("shallow", 1, Shallow),
        ("two", 2, Shallow),
    ]
    assert read.to_dict()["strategies"][1]["depth"] == 2
    assert Recipe.of(read.to_dict()) == Recipe.of_sections(read.to_sections()) == read


@pytest.mark.usefixtures("shallow")
def test_a_strategy_from_outside_is_carried_out(source, renamed, carry):
    result = carry(source, renamed, {"strategy": "shallow", "depth": 2}, epochs=1)

    assert result.bundle.provenance["strategy"] == "shallow"
    assert result.bundle.provenance["decisions"]["part"] == "first 2"
    before, after = (bundle.network.state_dict() for bundle in (source, result.bundle))
    moved = {name.split(".")[1] for name in before if "stages" in name and not before[name].equal(after[name])}
    assert moved <= {"0", "1"}


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy": "shallow", "depth": 0}, r"strategies\[0\].depth: 0 must be greater than or equal to 1"),
        ({"strategy": "shallow", "dept": 1}, r"strategies\[0\].dept: unknown key"),
        ({"strategy": "deep"}, r"strategies\[0\]: 'deep' is not one of 'distill', .*'shallow'"),
        ({"strategy": "lora", "transfer": "full"}, "transfer is 'full', which is not the strategy lora"),
        ({"strategy": "lp_ft", "schedule": "constant"}, "schedule is 'constant', which is not the strategy lp_ft"),
    ],
)
def test_settings_that_are_not_the_named_strategys_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        recipe(strategies=[{"name": "x", **settings}])


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "lora"])
def test_a_strategy_may_be_named_outright(name):
    word = Strategy.model_validate(name)
    named = Strategy.of({"name": name, "strategy": name})

    assert type(named) is type(word)
    assert named == word.model_copy(update={"strategy": name})
    assert Strategy.of(named.model_dump(mode="json")) == named


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_says_in_its_file_what_it_is(name):
    assert (sys.modules[STRATEGIES[name].__module__].__doc__ or "").startswith(f"{name}: ")


def test_a_strategy_kept_with_every_key_of_todays_recipes_is_read(renamed):
    """As resolved recipes were written when all strategies had the same keys."""
    empty = dict.fromkeys(
        ("schedule", "freeze", "surgical", "lora", "layer_decay", "interpolate", "regularizer", "strength", "epochs")
    )
    assert type(Strategy.of({**empty, "name": "zero", "transfer": "zero"})) is STRATEGIES["zero"]
    lora = Strategy.of({**empty, "name": "lora", "transfer": "partial", "schedule": "lp_ft", "lora": 8})
    assert lora == Strategy.model_validate("lora")


def test_a_regularizer_from_outside_is_added_to_the_loss(add_member, source, renamed, carry):
    seen = []

    def penalty(network, strength):
        return lambda network, *_: seen.append(strength) or 0.0 * network.head.weight.sum()

    add_member(REGULARIZERS, "none", Regularizer(penalty))
    carry(source, renamed, {"transfer": "full", "regularizer": "none", "strength": 0.5}, epochs=1)

    assert set(seen) == {0.5}


def test_a_baseline_from_outside_may_be_listed_and_no_strategy_may_have_its_name(add_member):
    add_member(BASELINES, "chance", Baseline(lambda *_: None, is_network=False))

    assert recipe(baselines=["chance", "scratch"]).baselines == ("chance", "scratch")
    with pytest.raises(InputError, match="'chance' is the name of a baseline"):
        recipe(strategies=[{"name": "chance", "transfer": "full"}])


def test_an_objective_from_outside_pretrains_and_says_which_settings_have_no_meaning(add_member, renamed):
    def learn(bundle, dataset, plan, context):
        return Trained(bundle, validation=plan.epochs, seconds=0.0, params={})

    objective = PretrainingObjective(
        learn, learns_labels=False, no_meaning=("flip",), reason="which knows left from right"
    )
    add_member(OBJECTIVES, "rotation", objective)
    trained = pretrain(Pretraining.of({"objective": "rotation", "epochs": 3}), renamed, RunContext())

    assert trained.validation == 3
    assert trained.params == {"architecture": "convnet"}
    assert (trained.bundle.classes, trained.bundle.provenance["objective"]) == ((), "rotation")
    with pytest.raises(InputError, match="flip has no meaning with objective rotation, which knows left from right"):
        Pretraining.of({"objective": "rotation", "flip": True})
