import json
from pathlib import Path

import pytest
import yaml

from headstart.data.section import Data, Split
from headstart.errors import InputError
from headstart.judging.section import Evaluation
from headstart.recipe.recipe import Recipe, load_recipe
from headstart.strategies.baseline import BASELINES
from headstart.strategies.section import STRATEGIES, Strategy
from headstart.training.section import Pretraining, Training

SHORT = {"name": "digits", "source": {"data": {"uri": "data/mnist"}}, "target": {"data": {"uri": "data/digits"}}}


@pytest.fixture
def read(tmp_path: Path):
    """Reads the short recipe with `changes` to its sections and with overrides, through a file."""

    def run(*overrides: str, **changes: object) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**SHORT, **changes}))
        return load_recipe(path, overrides)

    return run


def sentence(action, *arguments: object, **named: object) -> str:
    with pytest.raises(InputError) as refusal:
        action(*arguments, **named)
    return str(refusal.value)


def test_a_name_and_two_data_references_are_a_recipe(read):
    recipe = read()
    assert [strategy.name for strategy in recipe.strategies] == ["zero", "linear_probe", "partial", "full", "full-l2sp"]
    assert recipe.baselines == ("scratch", "classical")
    assert recipe.evaluation.metric == "accuracy"
    assert recipe.source.pretraining.architecture == "convnet"
    assert recipe.seed == 0


def test_the_documented_recipe_is_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("""
name: digits
modality: image
source:
  data: {uri: data/mnist}
  candidates: []
  pretraining: {architecture: convnet, objective: supervised, epochs: 6}
target:
  data: {uri: data/digits, labels_per_class: 5, split: {train: 0.2, val: 0.1, test: 0.7}}
strategies:
  - zero
  - partial
  - full
  - {name: full-l2sp, transfer: full, schedule: lp_ft, regularizer: l2_sp, strength: 0.01}
baselines: [scratch, classical]
evaluation: {metric: accuracy, confidence: 0.95, min_gain: 0.0}
""")
    recipe = load_recipe(path)
    assert recipe.target.data.split == Split(train=0.2, val=0.1, test=0.7)
    assert recipe.source.pretraining.epochs == 6
    assert recipe.strategies[3] == Strategy.of(
        {"name": "full-l2sp", "transfer": "full", "schedule": "lp_ft", "regularizer": "l2_sp", "strength": 0.01}
    )


@pytest.mark.parametrize(
    ("source", "target", "pipeline"),
    [
        ({"data": {"uri": "a"}}, None, "pretrain"),
        ({"candidates": ["a"]}, {"data": {"uri": "b"}}, "finetune"),
        ({"data": {"uri": "a"}}, {"data": {"uri": "b"}}, "transfer"),
        ({"data": {"uri": "a"}, "candidates": ["c"]}, {"data": {"uri": "b"}}, "transfer"),
    ],
)
def test_what_a_recipe_gives_decides_which_pipeline_does_it(source, target, pipeline):
    assert Recipe.of({"name": "x", "source": source, "target": target}).pipeline == pipeline


def test_a_strategy_may_be_a_word_or_leave_out_its_name():
    assert Strategy.of({"transfer": "zero"}) == Strategy.model_validate("zero")
    assert Strategy.of({"transfer": "partial", "freeze": 2}).name == "partial"


@pytest.mark.parametrize("word", STRATEGIES)
def test_every_word_is_short_for_settings_that_may_be_written_out(word):
    strategy = Strategy.model_validate(word)
    assert strategy.name == word
    assert strategy == Strategy.of({"name": word, **STRATEGIES[word].short_for})
    # The resolved recipe has them all, and so reads the same when a word has come to mean something else.
    assert Strategy.of(strategy.model_dump(mode="json")) == strategy


def test_no_word_is_the_name_of_a_baseline():
    assert not STRATEGIES.keys() & BASELINES.keys()


@pytest.mark.parametrize("kind", ["partial", "full"])
def test_what_only_trains_begins_as_the_samples_allow_unless_told_otherwise(kind):
    assert Strategy.of({"transfer": kind}).schedule == "auto"
    assert Strategy.of({"transfer": kind, "schedule": "constant"}).schedule == "constant"


@pytest.mark.parametrize(
    "refinement",
    [{"surgical": "first"}, {"lora": 4}, {"layer_decay": 0.5}, {"interpolate": 0.5}, {"regularizer": "l2"}],
)
def test_what_refines_a_training_probes_first_unless_told_otherwise(refinement):
    assert Strategy.of({"transfer": "partial", **refinement}).schedule == "lp_ft"
    assert Strategy.of({"transfer": "partial", "schedule": "constant", **refinement}).schedule == "constant"


@pytest.mark.parametrize(
    "settings",
    [
        {"freeze": "all"},
        {"freeze": 3, "layer_decay": 0.5, "interpolate": "auto"},
        {"surgical": "middle", "interpolate": 0.5, "regularizer": "delta", "strength": 0.3},
        {"lora": 4, "epochs": 3, "learning_rate": 0.01},
        {"transfer": "full", "schedule": "gradual", "layer_decay": 1},
    ],
)
def test_what_a_strategy_says_is_kept(settings):
    strategy = Strategy.of({"transfer": "partial", **settings})
    assert {key: getattr(strategy, key) for key in settings} == settings
    assert Strategy.of(json.loads(strategy.model_dump_json())) == strategy


def test_pretraining_has_a_batch_of_its_own_unless_it_is_set():
    assert Training().batch_size is None
    assert Pretraining().batch_size == Pretraining.of({"objective": "vicreg"}).batch_size == 64
    assert Pretraining.of({"objective": "vicreg", "batch_size": 128}).batch_size == 128


def test_a_regularizer_has_a_strength_unless_told_otherwise():
    assert Strategy.of({"transfer": "full", "regularizer": "l2"}).strength == 0.01
    assert Strategy.of({"transfer": "full", "regularizer": "l2", "strength": 3.0}).strength == 3.0
    assert Strategy.model_validate("full").strength is None


def test_the_resolved_recipe_reads_back_as_itself(read):
    recipe = read(strategies=["zero", {"transfer": "full", "regularizer": "l2_sp"}], baselines=["scratch"])
    assert Recipe.of(recipe.to_dict()) == recipe
    # Through YAML too, which is how a run keeps it.
    assert Recipe.of(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_each_resolved_section_reads_back_as_a_parameter_does():
    for section in (Training(), Pretraining(epochs=3), Evaluation(), Data(uri="x"), Strategy.model_validate("full")):
        assert type(section).of(section.model_dump(mode="json")) == section


def test_whole_numbers_survive_the_way_through_kfp():
    training = Training.of({"epochs": 6.0, "batch_size": 32.0, "learning_rate": 1.0, "weight_decay": 0.0})
    assert (training.epochs, training.batch_size) == (6, 32)
    assert isinstance(training.epochs, int)
    nested = Recipe.of({**SHORT, "seed": 3.0, "target": {"data": {"uri": "x", "labels_per_class": 5.0}}})
    assert (nested.seed, nested.target.data.labels_per_class) == (3, 5)


def test_a_fraction_is_not_a_whole_number():
    assert "epochs: 6.5 must be" in sentence(Training.of, {"epochs": 6.5})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sede": 1}, "sede: unknown key; did you mean seed?"),
        ({"target": {"data": {"uri": "x", "label_per_class": 5}}}, "target.data.label_per_class: unknown key; did you"),
        (
            {"strategies": ["zero", {"transfer": "full", "regulariser": "l2"}]},
            "strategies[1].regulariser: unknown key; did you mean regularizer?",
        ),
        (
            {"source": {"data": {"uri": "x"}, "pretraining": {"epoch": 3}}},
            "source.pretraining.epoch: unknown key; did you mean epochs?",
        ),
        ({"training": {"zzz": 1}}, "training.zzz: unknown key; known here: accumulate, augmentation, "),
    ],
)
def test_an_unknown_key_is_refused_with_the_key_that_was_meant(read, changes, expected):
    assert expected in sentence(read, **changes)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": 3}, "name"),
        ({"seed": "1"}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": -1}, "seed"),
        ({"source": "data/mnist"}, "source"),
        ({"source": {"data": "data/mnist"}}, "source.data"),
        ({"source": {"data": {"uri": ""}}}, "source.data.uri"),
        ({"source": {"candidates": "models:/a@b"}}, "source.candidates"),
        ({"source": {"candidates": [1]}}, "source.candidates[0]"),
        ({"source": {"data": {"uri": "x"}, "pretraining": []}}, "source.pretraining"),
        ({"source": {"data": {"uri": "x"}, "pretraining": {"objective": "byol"}}}, "source.pretraining.objective"),
        ({"source": {"data": {"uri": "x", "labels": "few"}}}, "source.data.labels"),
        ({"target": []}, "target"),
        ({"target": {"data": {"uri": "x", "labels_per_class": 0}}}, "target.data.labels_per_class"),
        ({"target": {"data": {"uri": "x", "channels": 2}}}, "target.data.input.channels"),
        ({"target": {"data": {"uri": "x", "size": "32"}}}, "target.data.input.size"),
        ({"target": {"data": {"uri": "x", "split": {"train": "half"}}}}, "target.data.split.train"),
        ({"training": {"epochs": "6"}}, "training.epochs"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate"),
        ({"training": {"optimizer": "adam"}}, "training.optimizer"),
        ({"training": {"flip": 1}}, "training.flip"),
        ({"training": {"accumulate": 0}}, "training.accumulate"),
        ({"training": {"augmentation_strength": -0.1}}, "training.augmentation_strength"),
        ({"training": {"views": 0}}, "training.views"),
        ({"training": {"ema": 1}}, "training.ema"),
        ({"training": {"precision": "fp16"}}, "training.precision"),
        ({"training": {"layout": "nhwc"}}, "training.layout"),
        ({"training": {"compile": True}}, "training.compile"),
        ({"strategies": "zero"}, "strategies"),
        ({"strategies": ["wero"]}, "strategies[0].transfer"),
        ({"strategies": [5]}, "strategies[0]"),
        ({"strategies": [{"transfer": "full", "strength": "big", "regularizer": "l2"}]}, "strategies[0].strength"),
        ({"strategies": [{"transfer": "full", "name": "Full Transfer"}]}, "strategies[0].name"),
        ({"strategies": [{"transfer": "full", "schedule": "cosine"}]}, "strategies[0].schedule"),
        ({"strategies": [{"transfer": "partial", "surgical": "second"}]}, "strategies[0].surgical"),
        ({"strategies": [{"transfer": "partial", "lora": 0}]}, "strategies[0].lora"),
        ({"strategies": [{"transfer": "full", "layer_decay": 0}]}, "strategies[0].layer_decay"),
        ({"strategies": [{"transfer": "full", "layer_decay": 1.1}]}, "strategies[0].layer_decay"),
        ({"strategies": [{"transfer": "full", "regularizer": "l1"}]}, "strategies[0].regularizer"),
        ({"baselines": ["svm"]}, "baselines[0]"),
        ({"baselines": "scratch"}, "baselines"),
        ({"evaluation": {"metric": "auc"}}, "evaluation.metric"),
        ({"evaluation": {"confidence": 95}}, "evaluation.confidence"),
        ({"evaluation": None}, "evaluation"),
        ({"modality": "video"}, "modality"),
    ],
)
def test_a_wrong_type_or_value_is_one_sentence_that_starts_with_its_key(read, changes, place):
    message = sentence(read, **changes)
    assert message.count("\n") == 0
    assert f"recipe.yaml: {place}: " in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": {}}, "source: give data to pretrain on or at least one entry in candidates"),
        ({"source": {"candidates": ["x"]}, "target": None}, "target: missing"),
        ({"target": {"data": {"uri": "x", "split": {"train": 0.5}}}}, "must add up to 1, but add up to 0.8"),
        ({"target": {"data": {"uri": "x", "split": {"train": 0.8, "val": 0, "test": 0.2}}}}, "val must be above 0"),
        ({"strategies": []}, "strategies: list at least one"),
        ({"strategies": ["full", "full"]}, "the name 'full' is used twice"),
        ({"strategies": [{"transfer": "full", "name": "scratch"}]}, "is the name of a baseline"),
        ({"strategies": [{"transfer": "zero", "epochs": 3}]}, "epochs has no meaning in a zero transfer"),
        ({"strategies": [{"transfer": "zero", "regularizer": "l2"}]}, "regularizer has no meaning in a zero transfer"),
        ({"strategies": [{"transfer": "full", "freeze": 2}]}, "freeze has no meaning in a full transfer"),
        ({"strategies": [{"transfer": "full", "surgical": "auto"}]}, "surgical has no meaning in a full transfer"),
        ({"strategies": [{"transfer": "full", "lora": 2}]}, "lora has no meaning in a full transfer"),
        ({"strategies": [{"transfer": "partial", "freeze": 2, "lora": 2}]}, "freeze and lora each say which part"),
        ({"strategies": [{"transfer": "partial", "schedule": "gradual"}]}, "use it with transfer: full"),
        ({"strategies": [{"transfer": "partial", "freeze": "all", "epochs": 3}]}, "epochs has no meaning where freeze"),
        ({"strategies": [{"transfer": "zero", "surgical": "auto"}]}, "surgical has no meaning in a zero transfer"),
        ({"strategies": [{"transfer": "zero", "interpolate": 0.5}]}, "interpolate has no meaning in a zero transfer"),
        ({"source": {"data": {"uri": "x", "labels": "none"}}}, "set it to vicreg, or remove data.labels"),
        (
            {
                "source": {
                    "data": {"uri": "x", "labels": "none", "labels_per_class": 3},
                    "pretraining": {"objective": "vicreg"},
                }
            },
            "labels_per_class has no meaning where labels is none",
        ),
        ({"target": {"data": {"uri": "x", "labels": "none"}}}, "a target's labels are what is learned"),
        (
            {"source": {"data": {"uri": "x"}, "pretraining": {"objective": "vicreg", "label_smoothing": 0.1}}},
            "label_smoothing has no meaning with objective vicreg",
        ),
        ({"strategies": [{"transfer": "full", "strength": 0.1}]}, "strength needs a regularizer"),
        ({"baselines": ["scratch", "scratch"]}, "baselines: each may be listed once"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(read, changes, expected):
    assert expected in sentence(read, **changes)


CONVOLUTIONAL = {"data": {"uri": "data/mnist"}, "pretraining": {"architecture": "resnet18"}}


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ({"data": {"uri": "x"}}, "(convnet)"),
        (CONVOLUTIONAL, "(resnet18)"),
        ({"candidates": ["torchvision://vgg16/IMAGENET1K_V1"]}, "(vgg16)"),
        ({**CONVOLUTIONAL, "candidates": ["torchvision://alexnet/DEFAULT"]}, "(resnet18, alexnet)"),
    ],
)
def test_lora_is_refused_where_every_source_is_known_to_be_convolutional(read, source, named):
    message = sentence(read, source=source, strategies=["full", "lora"])
    assert "strategies.lora: lora adds to the linear layers of a vision transformer" in message
    assert f"the sources here are convolutional {named}; use surgical, or a source such as" in message


@pytest.mark.parametrize(
    "source",
    [
        {"candidates": ["torchvision://vit_b_16/IMAGENET1K_V1"]},
        {"candidates": ["torchvision://vgg16/IMAGENET1K_V1", "torchvision://swin_t/IMAGENET1K_V1"]},
        # What only the model itself can tell is told when it is loaded.
        {"candidates": ["models:/digits-source@champion"]},
        {**CONVOLUTIONAL, "candidates": ["file:///bundle"]},
        {"data": {"uri": "x"}, "pretraining": {"architecture": "timm/vit_tiny_patch16_224"}},
    ],
)
def test_lora_is_for_any_source_that_may_be_a_transformer(read, source):
    assert read(source=source, strategies=["lora"]).strategies[0].lora == 8


def test_a_missing_key_is_named(tmp_path):
    assert sentence(Recipe.of, {"source": {"data": {}}}, at="r.yaml").splitlines() == [
        "r.yaml: name: missing; add it.",
        "r.yaml: source.data.uri: missing; add it.",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: [digits", "line 1"),
        (b"\tname: x", "line 1, column 1"),
        (b"", "a recipe is a mapping"),
        (b"- digits", "a recipe is a mapping"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_name(tmp_path, content, expected):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    message = sentence(load_recipe, path)
    assert expected in message
    assert str(path) in message


@pytest.mark.parametrize("again", ["epochs: 2", "'epochs': 2", "<<: {epochs: 2}\n  <<: {views: 2}"])
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, again):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: digits\ntraining:\n  epochs: 1\n  {again}\n")
    first, second = (4, 5) if "<<" in again else (3, 4)
    key = "<<" if "<<" in again else "epochs"
    assert sentence(load_recipe, path) == (
        f"{path}: line {second}, column 3: the key '{key}' stands in line {first} already; keep one of them."
    )


def test_a_key_that_stands_twice_in_an_override_is_refused(read):
    assert "key 'epochs' stands in line 1 already" in sentence(read, "training={epochs: 1, epochs: 2}")


def test_a_merge_may_be_overridden(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: a\nsource: {data: &data {uri: a, size: 8}}\ntarget:\n  data: {<<: *data, uri: b}\n"
        "training: &training {epochs: 2}\nstrategies: [{name: full, transfer: full, epochs: 3}]\n"
    )
    assert load_recipe(path).target.data.input == {"size": 8}
    assert load_recipe(path).target.data.uri == "b"


def bomb(merged: bool) -> str:
    """Ten aliases to ten aliases, and so on: 10⁹ values in 400 bytes."""
    lines = ["a0: &a0 {x: 1}" if merged else "a0: &a0 [x]"]
    for level in range(1, 10):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {{<<: [{aliases}]}}" if merged else f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bomb(merged=False), "stand for more values"),
        (bomb(merged=True), "stand for more values"),
        ("name: &a [*a]", "stands for what it is a part of"),
        (f"name: {'[' * 1000}", "nested too deeply"),
        (f"seed: {'9' * 5000}", "line 1, column 7: '9999999999999999999999999999999999999999…' cannot be read as int"),
        (f"seed: 0x{'f' * 5000}", "cannot be read as int"),
        (f"seed: {':'.join(['1'] * 20_000)}", "cannot be read as int"),
        (f"seed: 1.{'9' * 5000}", "cannot be read as float"),
        ("name: 2026-02-30", "'2026-02-30' cannot be read as timestamp"),
        ("seed: !!int many", "'many' cannot be read as int"),
        ("seed: !!bool many", "'many' cannot be read as bool"),
        ("#" * 2**19, "more than 256 KiB"),
    ],
)
def test_what_would_take_a_parser_without_end_is_refused_in_one_short_sentence(tmp_path, text, expected):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    message = sentence(load_recipe, path)
    assert expected in message
    assert len(message) < 400


def test_a_file_without_an_end_is_refused():
    assert "more than 256 KiB" in sentence(load_recipe, Path("/dev/zero"))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 100_000},
        {"x" * 100_000: 1},
        {"seed": [[[["x" * 1000] * 1000]]]},
        {"baselines": ["x"] * 10_000},
        {"strategies": ["full"] * 20_000},
        {"target": {"data": {"uri": ["x" * 100_000]}}},
    ],
)
def test_a_wrong_value_is_shown_in_short(changes):
    assert len(sentence(Recipe.of, {**SHORT, **changes})) < 2500


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    assert "There is no recipe at" in sentence(load_recipe, tmp_path / "none.yaml")
    assert "cannot be read" in sentence(load_recipe, tmp_path)


def test_yaml_makes_no_objects(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    sentence(load_recipe, path)
    assert not (tmp_path / "made").exists()


def test_overrides_reach_every_depth_and_later_ones_win(read):
    recipe = read("target.data.labels_per_class=10", "training.epochs=3", "seed=1", "seed=2", "baselines=[scratch]")
    assert (recipe.target.data.labels_per_class, recipe.training.epochs, recipe.seed) == (10, 3, 2)
    assert recipe.baselines == ("scratch",)


def test_overrides_reach_into_lists_by_name_and_by_position(read):
    strategies = ["zero", {"transfer": "partial"}, {"name": "slow", "transfer": "full", "epochs": 9}]
    recipe = read(
        "strategies.partial.freeze=1",
        "strategies.slow.learning_rate=0.001",
        "strategies.2.epochs=5",
        "strategies.0=full",
        strategies=strategies,
    )
    assert [strategy.name for strategy in recipe.strategies] == ["full", "partial", "slow"]
    assert recipe.strategies[1].freeze == 1
    assert (recipe.strategies[2].learning_rate, recipe.strategies[2].epochs) == (0.001, 5)


def test_an_override_into_a_word_keeps_what_the_word_means(read):
    recipe = read("strategies.full.epochs=5", strategies=["zero", "full"])
    assert recipe.strategies[1] == Strategy.of({"name": "full", "transfer": "full", "schedule": "auto", "epochs": 5})
    by_position = read("strategies.1.epochs=5", strategies=["zero", "full"])
    assert by_position.strategies == recipe.strategies


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "write key=value"),
        ("=3", "write key=value"),
        ("a..b=3", "write key=value"),
        ("seed=[1", "not valid YAML"),
        ("strategies.full.epochs=3", "no entry 'full'"),
        ("strategies.7=zero", "no entry '7'"),
        ("name.first=x", "name is not a mapping"),
        ("seed=many", "seed: 'many' must be"),
        ("trainning.epochs=3", "trainning: unknown key; did you mean training?"),
    ],
)
def test_an_override_that_fits_nothing_is_refused(read, override, expected):
    assert expected in sentence(read, override, strategies=["zero"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target": None},
        {"source": {"candidates": ["file:///a"]}, "baselines": []},
        {"strategies": [{"name": "a", "transfer": "full", "regularizer": "l2", "strength": 1e-5}], "seed": 3},
        {"strategies": sorted(STRATEGIES.keys() - {"lora"})},
        {"training": {"ema": 0.99, "views": 2, "augmentation_strength": 0.0, "precision": "bf16"}},
        {"source": {"data": {"uri": "a", "labels": "none"}, "pretraining": {"objective": "vicreg"}}},
    ],
)
def test_a_recipe_comes_back_from_the_sections_that_the_pipelines_take(read, changes):
    recipe = read(**changes)
    assert Recipe.of_sections(recipe.to_sections()) == recipe


def test_a_resolved_recipe_in_json_is_a_recipe(read, tmp_path):
    recipe = read("training.learning_rate=1e-5")
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    assert recipe.training.learning_rate == 1e-5
    assert load_recipe(path) == recipe
