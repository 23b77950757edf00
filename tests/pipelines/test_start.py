"""The first steps of somebody new: a recipe for a folder, recipes by name, completion, and what an editor knows."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from PIL import Image

from headstart.recipe.draft import draft_recipe
from headstart.recipe.recipe import load_recipe
from headstart.recipe.schema import recipe_schema
from headstart_pipelines import cli as program

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "pipelines" / "recipes").glob("*.yaml"))
PROFILES = sorted((ROOT / "pipelines" / "profiles").glob("*.yaml"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes, one of them small."""
    for label, count in (("cat", 12), ("dog", 6)):
        (tmp_path / "My photos" / label).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (9, 9), number * 10).save(tmp_path / "My photos" / label / f"{number}.png")
    return tmp_path / "My photos"


# init


def test_init_writes_a_recipe_that_is_valid_and_says_what_it_saw(cli, photos):
    answer = cli("init", "My photos")

    assert answer.code == 0
    text = Path("my-photos.yaml").read_text()
    assert text in answer.out
    assert "18 pictures in 2 classes: cat 12, dog 6" in text
    assert "The smallest class has 6" in text
    recipe = load_recipe(Path("my-photos.yaml"))
    assert recipe.name == "my-photos"
    assert recipe.source.candidates == ("torchvision://resnet18/IMAGENET1K_V1",)
    assert recipe.target.data.uri == "My photos"


def test_init_names_the_commands_that_come_next_as_a_shell_takes_them(cli, photos):
    answer = cli("init", "My photos", "-o", "my recipe.yaml")

    assert "headstart check 'my recipe.yaml', then headstart run 'my recipe.yaml'" in answer.out


def test_what_init_leaves_as_comments_is_valid_where_it_is_taken_in(photos):
    draft = draft_recipe(str(photos), "other/data")
    assert draft.text.count("\n# strategies: ") == 1
    lines = draft.text.splitlines()
    taken = [
        line.replace("# ", "", 1) if line.lstrip().startswith(("# labels", "# strat", "# train", "# cand")) else line
        for line in lines
    ]
    Path("taken.yaml").write_text("\n".join(taken))

    recipe = load_recipe(Path("taken.yaml"))
    assert recipe.target.data.labels_per_class == 3
    assert recipe.source.data.uri == "other/data"
    assert recipe.source.candidates


@pytest.mark.parametrize(
    "source",
    [
        "models:/*-source",
        "torchvision://vgg16/IMAGENET1K_V1",
        "timm://resnet18.a1_in1k",
        "hf://owner/name",
        "one.safetensors",
    ],
)
def test_a_model_as_source_is_a_candidate(photos, source):
    Path("one.yaml").write_text(draft_recipe(str(photos), source).text)

    assert load_recipe(Path("one.yaml")).source.candidates == (source,)


@pytest.mark.parametrize("source", ["torchvision://FashionMNIST", "s3://bucket/prefix", "photos/site-a", "a.npz"])
def test_samples_as_source_are_pretrained_on(photos, source):
    Path("one.yaml").write_text(draft_recipe(str(photos), source).text)

    assert load_recipe(Path("one.yaml")).source.data.uri == source


def test_init_replaces_no_file_and_names_what_is_no_data(cli, photos):
    Path("my-photos.yaml").write_text("mine")

    assert "my-photos.yaml exists" in cli("init", "My photos").err
    assert Path("my-photos.yaml").read_text() == "mine"
    assert cli("init", "nowhere").code == 2


# Recipes and profiles that come along


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_comes_along_is_called_by_its_name(path):
    assert program._parser().parse_args(["run", path.stem]).recipe.samefile(path)


def test_a_file_of_the_users_is_meant_before_one_that_comes_along(tmp_path):
    (tmp_path / "digits").write_text("name: mine")

    assert program._parser().parse_args(["run", "digits"]).recipe == Path("digits")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_that_comes_along_is_called_by_its_name(path):
    options = program._parser().parse_args(["submit", "digits", "--profile", path.stem])
    assert options.profile.samefile(path)


def test_what_comes_along_is_in_the_wheel():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {"recipes/*.yaml", "profiles/*.yaml", "py.typed"} <= set(data["headstart_pipelines"])
    assert all("py.typed" in patterns for patterns in data.values())


# Completion


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "word"),
    [("headstart ru", "run"), ("headstart run --work", "--workspace"), ("headstart run dig", "digits"),
     ("headstart submit digits --profile sing", "single-gpu"), ("headstart completion z", "zsh")],
)  # fmt: skip
def test_bash_completes_commands_options_and_names(cli, line, word):
    words = line.split()
    ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _headstart; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(
        ["bash", "-c", cli("completion", "bash").out + ask],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )

    assert word in done.stdout.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command(cli, shell):
    said = cli("completion", shell).out

    for command in ("demo", "run", "promote", "submit"):
        assert command in said


# The schema


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_editor_finds_no_fault_with_a_recipe_that_ships(path):
    jsonschema.validate(yaml.safe_load(path.read_text()), recipe_schema())


def test_an_editor_finds_no_fault_with_what_init_writes(photos):
    jsonschema.validate(yaml.safe_load(draft_recipe(str(photos)).text), recipe_schema())


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 3}, {"training": {"epoch": 3}}, {"training": {"epochs": "many"}}, {"strategies": [{"depth": 3}]},
     {"target": {"data": {"uri": "a", "sizes": 3}}}, {"baselines": ["random"]}],
    ids=str,
)  # fmt: skip
def test_an_editor_marks_a_wrong_key_or_value(wrong):
    recipe = {"name": "a", "source": {"data": {"uri": "b"}}, "target": {"data": {"uri": "c", "size": 8}}}
    jsonschema.validate(recipe, recipe_schema())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**recipe, **wrong}, recipe_schema())


def test_the_command_prints_the_schema(cli):
    assert json.loads(cli("schema").out) == recipe_schema()
