"""`headstart check`: what is wrong with a recipe or its data is said in one sentence before any work starts."""

import re
import shutil
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle

GOOD: dict[str, Any] = {
    "name": "case",
    "source": {"data": {"uri": "source"}},
    "target": {"data": {"uri": "target"}},
}


def recipe(**changes: Any) -> str:
    """A good recipe with `changes`, whose keys are paths with __ between the keys; None removes a key."""
    values = yaml.safe_load(yaml.safe_dump(GOOD))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for key in parents:
            place = place.setdefault(key, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return yaml.safe_dump(values)


@pytest.fixture
def place(images: Path, tmp_path: Path) -> Path:
    """The working directory, with the folders source/ and target/ of two classes and 12 pictures a class."""
    for name in ("source", "target"):
        for label in "01":
            (tmp_path / name / label).mkdir(parents=True)
            for file in sorted((images / "digits" / label).iterdir())[:12]:
                shutil.copyfile(file, tmp_path / name / label / file.name)
    return tmp_path


def a_file(place: Path) -> None:
    shutil.rmtree(place / "target")
    (place / "target").write_text("no folder")


def one_class(place: Path) -> None:
    shutil.rmtree(place / "target" / "1")


def no_class(place: Path) -> None:
    for label in "01":
        shutil.rmtree(place / "target" / label)


def empty_class(place: Path) -> None:
    (place / "target" / "2").mkdir()


def one_picture(place: Path) -> None:
    for file in sorted((place / "target" / "1").iterdir())[1:]:
        file.unlink()


def text_named_png(place: Path) -> None:
    for file in (place / "target" / "1").iterdir():
        file.write_text("not a picture")


def unlabelled(role: str) -> Callable[[Path], None]:
    """The pictures of `role` in its folder itself."""

    def flatten(place: Path) -> None:
        for file in (place / role).glob("*/*.png"):
            file.rename(place / role / f"{file.parent.name}-{file.name}")
        for label in "01":
            (place / role / label).rmdir()

    return flatten


def class_only_in_training(place: Path) -> None:
    shutil.copytree(place / "target", place / "given" / "train")
    shutil.copytree(place / "target" / "0", place / "given" / "test" / "0")
    shutil.rmtree(place / "target")
    (place / "given").rename(place / "target")


def split_beside_classes(place: Path) -> None:
    shutil.copytree(place / "target", place / "target" / "train")


def pickle_for_a_bundle(place: Path) -> None:
    (place / "bundle").mkdir()
    (place / "bundle" / "model.pth").write_bytes(b"\x80\x04.")


def damaged_bundle(place: Path) -> None:
    bundle(place)
    (place / "bundle" / "model.safetensors").write_bytes(b"")


def bundle(place: Path) -> None:
    """A good source with three stages."""
    provenance = {"role": "source", "name": "a", "strategy": None, "data_digest": None, "head": "none"}
    network = build_network("convnet", classes=2, channels=1)
    look = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.5,))
    ModelBundle(network, "convnet", "image", look, ("0", "1"), provenance=provenance).save(place / "bundle")


CASES: dict[str, tuple[str | None, Callable[[Path], None] | None, tuple[str, ...]]] = {
    # The file
    "no recipe": (None, None, ("recipe.yaml", "no recipe")),
    "not YAML": ("name: [", None, ("recipe.yaml", "line 1")),
    "a list": ("- name", None, ("recipe.yaml", "mapping")),
    "empty": ("", None, ("recipe.yaml", "mapping")),
    "not text": ("\udcff", None, ("recipe.yaml", "cannot be read")),
    # Keys and values
    "no name": (recipe(name=None), None, ("name", "missing")),
    "a name for no registry": (recipe(name="My Model!"), None, ("name", "My Model!", "lower-case")),
    "no source": (recipe(source=None), None, ("source", "missing")),
    "neither data nor candidates": (recipe(source={}), None, ("source", "candidates")),
    "unknown key": (recipe(target__data__label_per_class=5), None, ("target.data.label_per_class", "labels_per_class")),
    "unknown section": (recipe(strategy=["full"]), None, ("strategy", "strategies")),
    "wrong type": (recipe(training__epochs="many"), None, ("training.epochs", "many", "integer")),
    "text for a list": (recipe(strategies="full"), None, ("strategies", "list")),
    "text for a section": (recipe(training="fast"), None, ("training", "mapping")),
    "negative number": (recipe(training__learning_rate=-1), None, ("training.learning_rate", "-1", "greater than 0")),
    "fraction of an epoch": (recipe(training__epochs=1.5), None, ("training.epochs", "1.5", "integer")),
    "zero labels": (recipe(target__data__labels_per_class=0), None, ("target.data.labels_per_class", "0")),
    "split not adding to 1": (
        recipe(target__data__split={"train": 0.5, "val": 0.5, "test": 0.5}),
        None,
        ("target.data.split", "add up to 1", "1.5"),
    ),
    "split without test": (
        recipe(target__data__split={"train": 0.8, "val": 0.2, "test": 0}),
        None,
        ("target.data.split", "test must be above 0"),
    ),
    "unknown metric": (recipe(evaluation__metric="auc"), None, ("evaluation.metric", "auc", "accuracy")),
    "unknown modality": (recipe(modality="smell"), None, ("modality", "smell", "image")),
    "unknown baseline": (recipe(baselines=["luck"]), None, ("baselines[0]", "luck", "scratch")),
    "baseline twice": (recipe(baselines=["scratch", "scratch"]), None, ("baselines", "once")),
    # Strategies
    "no strategy": (recipe(strategies=[]), None, ("strategies", "at least one")),
    "duplicate strategy names": (recipe(strategies=["full", "full"]), None, ("strategies", "'full'", "twice")),
    "unknown strategy kind": (recipe(strategies=["complete"]), None, ("strategies[0].transfer", "complete", "'zero'")),
    "baseline name as strategy": (
        recipe(strategies=[{"name": "scratch", "transfer": "full"}]),
        None,
        ("strategies", "'scratch'", "baseline"),
    ),
    "strength without regularizer": (
        recipe(strategies=[{"transfer": "full", "strength": 0.1}]),
        None,
        ("strategies[0]", "strength", "l2_sp"),
    ),
    "unknown regularizer": (
        recipe(strategies=[{"transfer": "full", "regularizer": "l3"}]),
        None,
        ("strategies[0].regularizer", "l3", "l2_sp"),
    ),
    "training in a zero transfer": (
        recipe(strategies=[{"transfer": "zero", "epochs": 3}]),
        None,
        ("strategies[0]", "epochs", "zero"),
    ),
    "freeze in a full transfer": (
        recipe(strategies=[{"transfer": "full", "freeze": 1}]),
        None,
        ("strategies[0]", "freeze", "partial"),
    ),
    "freeze beyond the stages": (
        recipe(strategies=[{"transfer": "partial", "freeze": 99}]),
        None,
        ("strategies.partial.freeze", "99", "convnet", "at most"),
    ),
    "freeze beyond a candidate's stages": (
        recipe(source={"candidates": ["bundle"]}, strategies=[{"transfer": "partial", "freeze": 99}]),
        bundle,
        ("strategies.partial.freeze", "99", "bundle", "at most"),
    ),
    # Data
    "missing folder": (recipe(target__data__uri="nowhere"), None, ("target.data", "nowhere", "does not exist")),
    "file instead of folder": (recipe(), a_file, ("target", "is a file", "folder")),
    "unsupported scheme": (
        recipe(target__data__uri="ftp://host/pictures"),
        None,
        ("target.data", "ftp://host/pictures", "not understood"),
    ),
    "no class": (recipe(), no_class, ("target", "no class folders")),
    "one class": (recipe(), one_class, ("target", "'0'", "two")),
    "empty class": (recipe(), empty_class, ("target", "'2'", "no samples")),
    "one picture in a class": (recipe(), one_picture, ("target", "'1'", "1 sample")),
    "text files named .png": (recipe(), text_named_png, ("target", "'1'", "1/0", ".png", "replace")),
    "class missing from a given split": (recipe(), class_only_in_training, ("target", "'1'", "test/")),
    "split folder beside classes": (recipe(), split_beside_classes, ("target", "'train'", "alone")),
    "more labels than there are": (
        recipe(target__data__labels_per_class=12),
        None,
        ("target.data.labels_per_class is 12", "only 12", "test split"),
    ),
    "labels to learn that are not there": (
        recipe(),
        unlabelled("source"),
        ("source.data", "no class folders", "<class>/<file>", "source.pretraining.objective to vicreg"),
    ),
    "a target without labels": (
        recipe(source__pretraining={"objective": "vicreg"}),
        unlabelled("target"),
        ("target.data", "no class folders", "<class>/<file>"),
    ),
    "a number of labels where there are none": (
        recipe(source__pretraining={"objective": "vicreg"}, source__data__labels_per_class=3),
        unlabelled("source"),
        ("source.data", "no class folders", "labels_per_class", "remove it"),
    ),
    # Models
    "a network of another size": (
        recipe(source__pretraining={"architecture": "timm/vit_tiny_patch16_224"}, source__data__size=32),
        None,
        ("source.pretraining.architecture", "does not read samples of 32 × 32, RGB", "?img_size="),
    ),
    "unknown architecture": (
        recipe(source__pretraining={"architecture": "resnet19"}),
        None,
        ("source.pretraining.architecture", "resnet19", "resnet18"),
    ),
    "unknown torchvision model": (
        recipe(source={"candidates": ["torchvision://vgg17/IMAGENET1K_V1"]}),
        None,
        ("torchvision://vgg17", "vgg16"),
    ),
    "unknown torchvision weights": (
        recipe(source={"candidates": ["torchvision://vgg16/MNIST"]}),
        None,
        ("torchvision://vgg16/MNIST", "IMAGENET1K_V1"),
    ),
    "missing local bundle": (
        recipe(source={"candidates": ["bundles/old"]}),
        None,
        (
            "source.candidates",
            "bundles/old",
        ),
    ),
    "a pickle instead of a bundle": (
        recipe(source={"candidates": ["bundle"]}),
        pickle_for_a_bundle,
        ("bundle", "model.json"),
    ),
    "damaged bundle": (recipe(source={"candidates": ["bundle"]}), damaged_bundle, ("bundle", "model.safetensors")),
    "unknown registered model": (
        recipe(source={"candidates": ["models:/nothing@champion"]}),
        None,
        ("source.candidates", "models:/nothing@champion", "--workspace"),
    ),
    "candidate of an unknown scheme": (recipe(source={"candidates": ["hub://x"]}), None, ("hub://x", "torchvision://")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_recipe_or_folder_gets_one_clear_sentence(case, place, cli):
    text, breaking, words = CASES[case]
    if text is not None:
        (place / "recipe.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    if breaking:
        breaking(place)

    answer = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("headstart: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://somebody:secret@127.0.0.1:9/"])
@pytest.mark.parametrize("command", [["check", "recipe.yaml"], ["run", "recipe.yaml"], ["compare", "case"]])
def test_an_mlflow_server_that_does_not_answer_gets_one_clear_sentence(place, cli, monkeypatch, command, address):
    # Nothing listens on the discard port.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    (place / "recipe.yaml").write_text(recipe())

    answer = cli(*command)

    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert "http://127.0.0.1:9" in line
    assert "MLFLOW_TRACKING_URI" in line
    assert "secret" not in answer.out + answer.err


def test_something_else_than_mlflow_at_the_servers_address_gets_one_clear_sentence(place, cli, monkeypatch):
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403, "not for you")

        def do_POST(self) -> None:
            self.send_error(403, "not for you")

        def log_message(self, *_: object) -> None:
            pass

    (place / "recipe.yaml").write_text(recipe())
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        answer = cli("check", "recipe.yaml")
        server.shutdown()

    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert f"127.0.0.1:{server.server_port}" in line
    assert "403" in line


@pytest.mark.parametrize(
    "value", ["no equals sign", "=5", "training.epochs=[", "name.first=x", "strategies.none.epochs=3"]
)
def test_an_override_that_does_not_fit_gets_one_clear_sentence(place, cli, value):
    (place / "recipe.yaml").write_text(recipe(strategies=["full"]))

    answer = cli("check", "recipe.yaml", "--set", value)

    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert value in line


def test_every_wrong_key_of_a_recipe_is_named_at_once(place, cli):
    (place / "recipe.yaml").write_text(recipe(seed=-1, training__epochs=0))

    answer = cli("check", "recipe.yaml")

    assert answer.code == 2
    assert "seed: " in answer.err
    assert "training.epochs: " in answer.err


@pytest.mark.parametrize("command", ["check", "run"])
def test_data_of_a_shipped_recipe_that_are_missing_come_with_the_commands_that_bring_them(place, cli, command):
    answer = cli(command, "angles", "--workspace", place / "workspace")

    assert answer.code == 2
    assert "Data folder 'angles/source/labels.csv' does not exist" in answer.err
    assert answer.err.endswith("angles.yaml):\n    python -m headstart_pipelines.angles angles\n")


def test_published_data_that_are_missing_come_with_where_they_are_published_alone(place, cli):
    (line,) = cli("check", "cifar10", "--workspace", place / "workspace").err.splitlines()

    assert "fetch https://" in line


def test_data_of_ones_own_recipe_that_are_missing_come_with_one_sentence_alone(place, cli):
    (place / "recipe.yaml").write_text("# See:\n#     ./bring.sh\n" + recipe(target__data__uri="nowhere"))

    (line,) = cli("check", "recipe.yaml", "--workspace", place / "workspace").err.splitlines()

    assert "'nowhere' does not exist" in line


def test_a_good_recipe_is_reported_thing_by_thing(place, cli):
    (place / "recipe.yaml").write_text(recipe())

    answer = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert (answer.code, answer.err) == (0, "")
    for words in ("pipeline transfer", "source: 24 samples in 2 classes", "target: 24 samples in 2 classes", "convnet"):
        assert words in answer.out


@pytest.mark.parametrize(("labels", "flat"), [(None, True), ("none", True), ("none", False)])
def test_a_source_without_labels_is_reported_as_one(labels, flat, place, cli):
    if flat:
        unlabelled("source")(place)
    data = {"uri": "source", **({"labels": labels} if labels else {})}
    (place / "recipe.yaml").write_text(recipe(source={"data": data, "pretraining": {"objective": "vicreg"}}))

    answer = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert (answer.code, answer.err) == (0, "")
    assert "source: 24 samples without labels" in answer.out


@pytest.mark.parametrize("role", ["source", "target"])
def test_a_run_refuses_data_without_labels_before_it_starts_where_they_are_learned(role, place, cli):
    unlabelled(role)(place)
    (place / "recipe.yaml").write_text(recipe())

    answer = cli("run", "recipe.yaml", "--workspace", place / "workspace")

    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith(f"headstart: {role}.data: ")
    assert "no class folders" in line
    assert not (place / "workspace" / "pipeline").exists()


def test_checking_makes_nothing(place, cli):
    (place / "recipe.yaml").write_text(recipe())

    cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert {path.name for path in place.iterdir()} == {"recipe.yaml", "source", "target"}


def test_a_good_candidate_is_reported_pinned_to_its_content(place, cli):
    bundle(place)
    (place / "recipe.yaml").write_text(recipe(source={"candidates": ["bundle"]}))

    answer = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert (answer.code, answer.err) == (0, "")
    assert "bundle#sha256=" in answer.out


def test_the_start_of_a_pretraining_is_reported_pinned_and_one_that_is_missing_refused(place, cli):
    bundle(place)
    (place / "recipe.yaml").write_text(recipe(source__pretraining={"start": "bundle"}))
    good = cli("check", "recipe.yaml", "--workspace", place / "workspace")
    (place / "recipe.yaml").write_text(recipe(source__pretraining={"start": "elsewhere"}))
    bad = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    (place / "recipe.yaml").write_text(recipe(source__pretraining={"start": "models:/*-source"}))
    several = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert (good.code, good.err) == (0, "")
    assert re.search(r"^start .*bundle#sha256=", good.out, re.MULTILINE)
    assert (bad.code, several.code) == (2, 2)
    assert "source.pretraining.start: " in bad.err
    assert "a training starts from one; name its version" in several.err


def test_bad_files_in_a_good_class_are_counted_and_the_first_is_named(place, cli):
    for name in ("0.png", "00.png"):
        (place / "target" / "0" / name).write_text("not a picture")
    (place / "recipe.yaml").write_text(recipe())

    answer = cli("check", "recipe.yaml", "--workspace", place / "workspace")

    assert answer.code == 0
    (line,) = (line for line in answer.out.splitlines() if line.startswith("target"))
    assert "at least 2 files will be refused, first 0/0.png: " in line


def test_the_checks_of_the_file_and_of_the_command_line_take_the_same_overrides(place, cli):
    (place / "recipe.yaml").write_text(recipe(target__data__labels_per_class=0))

    assert cli("check", "recipe.yaml", "--set", "target.data.labels_per_class=2").code == 0


@pytest.mark.parametrize(("modality", "package"), [("text", "tokenizers"), ("audio", "soundfile")])
def test_a_package_that_samples_are_read_by_is_asked_for_before_a_run_fails_for_it(
    modality, package, place, cli, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    (place / "recipe.yaml").write_text(recipe(modality=modality))

    answer = cli("check", "recipe.yaml")

    assert answer.code == 2
    assert f"install it with: pip install 'headstart[{modality}]'" in answer.err
