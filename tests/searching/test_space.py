"""What a search varies: it follows from the strategies' marks, and the recipe narrows or replaces it."""

import optuna
import pytest

from headstart.errors import InputError
from headstart.recipe.recipe import Recipe
from headstart.searching.section import Search
from headstart.searching.space import Candidate, Space, registered_name
from headstart.strategies.section import STRATEGIES, FineTuning, Strategy

CONVNET = Candidate("ours", "convnet", 4)
TRANSFORMER = Candidate("theirs", "vit_b_16", 12)


def space(*sources: Candidate, **section: object) -> Space:
    return Space.of(Search.of(section, at="search"), sources or (CONVNET,), epochs=20, augmentations=("crop", "photo"))


def draws(found: Space, count: int = 150) -> list[tuple[str, Strategy]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [found.draw(study.ask(), number) for number in range(count)]
    return [(source.name, strategy) for source, strategy in drawn]


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_every_registered_strategy_is_drawn_with_settings_that_a_recipe_takes():
    drawn = draws(space(CONVNET, TRANSFORMER, strategies=list(STRATEGIES)))

    assert {registered_name(strategy) for _, strategy in drawn} == set(STRATEGIES)
    assert {source for source, _ in drawn} == {"ours", "theirs"}
    for number, (_, strategy) in enumerate(drawn):
        assert strategy.name == f"{registered_name(strategy)}-{number}"
        assert Strategy.of(strategy.model_dump(mode="json", exclude_none=True)) == strategy


def test_what_is_made_to_be_small_is_tried_where_the_recipe_says_so():
    assert set(space(CONVNET, TRANSFORMER).settings) == set(STRATEGIES) - {"distill", "int8"}
    assert "distill" in space(CONVNET, strategies=["distill", "full"]).settings


def test_settings_vary_within_their_marks():
    trained = [strategy for _, strategy in draws(space()) if strategy.trains]

    assert {strategy.augmentation for strategy in trained} == {"crop", "photo", "none"}
    assert all(10 <= strategy.epochs <= 40 for strategy in trained)
    assert all(3e-5 <= strategy.learning_rate <= 1e-2 for strategy in trained)
    assert min(strategy.learning_rate for strategy in trained) < 1e-4 < 3e-3 < max(s.learning_rate for s in trained)
    tuned = [strategy for strategy in trained if isinstance(strategy, FineTuning)]
    assert all((strategy.strength is None) == (strategy.regularizer is None) for strategy in tuned)
    assert all((s.augmentation_strength is None) == (s.augmentation == "none") for s in trained)
    assert {s.freeze for s in trained if registered_name(s) == "partial"} == {1, 2, 3, 4}


def test_a_strategy_that_suits_no_source_is_not_tried():
    assert "lora" not in space(CONVNET).settings
    assert "lora" in space(CONVNET, TRANSFORMER).settings
    assert "surgical" not in space(Candidate("small", "ours", 2)).settings
    with pytest.raises(InputError, match=r"None of search.strategies suits a source: .*linear layers"):
        space(CONVNET, strategies=["lora"])


def test_the_recipe_narrows_strategies_and_replaces_settings():
    found = space(
        strategies=["full", "zero"],
        settings={"learning_rate": [0.1, 0.2], "epochs": {"low": 2, "high": 4}, "layer_decay": 0.8, "interpolate": 0.5},
    )
    drawn = [strategy for _, strategy in draws(found)]

    assert {registered_name(strategy) for strategy in drawn} == {"full", "zero"}
    full = [strategy for strategy in drawn if strategy.trains]
    assert {strategy.learning_rate for strategy in full} == {0.1, 0.2}
    assert {strategy.epochs for strategy in full} == {2, 3, 4}
    assert {(strategy.layer_decay, strategy.interpolate) for strategy in full} == {(0.8, 0.5)}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"settings": {"learnin_rate": 1}}, "'learnin_rate' is no setting .* did you mean learning_rate"),
        ({"settings": {"sizes": 1}}, "known here: augmentation, .*learning_rate"),
        ({"strategies": ["zero"], "settings": {"epochs": 1}}, "no setting of these strategies; known here: none"),
        ({"strategies": ["ful"]}, "'ful' is not one of 'distill', 'full'"),
        ({"strategies": []}, "list at least one"),
        ({"settings": {"epochs": [0.5]}}, "settings.epochs: 0.5 must be a valid integer"),
        ({"settings": {"epochs": []}}, "the list is empty"),
        ({"settings": {"strength": [-1.0]}}, "settings.strength: -1.0 must be greater than"),
        ({"settings": {"regularizer": ["l3"]}}, "settings.regularizer: 'l3'"),
        ({"settings": {"learning_rate": {"low": 1}}}, "write {low: 1, high: 2}"),
        ({"settings": {"learning_rate": {"low": 0.2, "high": 0.1}}}, "low must be less"),
        ({"settings": {"learning_rate": {"low": 0.1, "high": 99}}}, "99 must be less than or equal to 10"),
        ({"keep": 0}, "keep: 0 must be"),
        ({"kep": 1}, "did you mean keep"),
    ],
)
def test_a_wrong_space_is_refused_before_any_work_with_the_known_names(section, message):
    values = {"name": "a", "source": {"candidates": ["b"]}, "target": {"data": {"uri": "c"}}, "search": section}
    with pytest.raises(InputError, match=message):
        Recipe.of(values)
