"""A kind of data that headstart does not know, vectors of unequal length, goes the whole way that pictures go.

The package tests/numbers brings the modality and a network that reads it; nothing else knows of either.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.ragged import RaggedSamples, write_ragged
from headstart.data.section import Data
from headstart.errors import InputError
from headstart.judging.selection import select_source
from headstart.modalities import MODALITIES
from headstart.models.architectures import ARCHITECTURES
from headstart.models.bundle import ModelBundle
from headstart.models.onnx import export
from headstart.recipe.recipe import Recipe
from headstart.strategies.baseline import BASELINES, Like
from headstart.strategies.pretraining import pretrain
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.context import RunContext
from headstart.training.section import Pretraining, Training
from tests.packages import installed, run_python

NUMBERS = Path(__file__).parent / "numbers"
SHAPES = {"fall": lambda t: -t, "rise": lambda t: t, "wave": lambda t: np.sin(9 * t)}
TRAINING = Training(epochs=6)
CLI = ("-m", "headstart_pipelines.cli")

RECIPE = """
name: curves
modality: numbers
source:
  data: {{uri: {root}/source}}
  pretraining: {{architecture: numbernet, epochs: 8}}
target:
  data: {{uri: {root}/target, labels_per_class: 5, split: {{train: 0.3, val: 0.2, test: 0.5}}}}
training: {{epochs: 8}}
strategies:
  - zero
  - linear_probe
  - full
  - {{name: stage-by-stage, strategy: gradual}}
  - {{name: one-stage, strategy: surgical}}
evaluation: {{resamples: 200, curve: [2]}}
"""


def write(folder: Path, count: int, *, seed: int, scale: float = 1.0, shift: float = 0.0) -> Path:
    """Noisy curves of 6 to 39 numbers in class folders; `scale` and `shift` are the domain's."""
    generator = np.random.default_rng(seed)
    for label, shape in SHAPES.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            times = np.linspace(0, 1, generator.integers(6, 40))
            values = scale * (2 * shape(times) + generator.normal(size=len(times))) + shift
            (folder / label / f"{number:03}.txt").write_text(" ".join(f"{value:.3f}" for value in values))
    return folder


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("curves")
    write(root / "source", 50, seed=0)
    write(root / "target", 50, seed=1, scale=3.0, shift=1.0)
    return root


@pytest.fixture
def numbers(add_member, monkeypatch):
    """The modality, known to this process."""
    monkeypatch.syspath_prepend(NUMBERS)
    from unequal.modality import MODALITY
    from unequal.network import ARCHITECTURE

    add_member(MODALITIES, "numbers", MODALITY)
    add_member(ARCHITECTURES, "numbernet", ARCHITECTURE)
    return MODALITY


@pytest.fixture
def packed(numbers, curves, tmp_path):
    shares = {"train": 0.3, "val": 0.2, "test": 0.5}
    return prepare(Data(uri=str(curves / "target"), split=shares), tmp_path / "packed", modality="numbers")


# Stores


def test_samples_of_unequal_length_are_kept_as_they_are(packed, curves):
    train = packed.split("train")
    for values, path in zip(train.samples[:], train.paths, strict=True):
        expected = (curves / "target" / path).read_text().split()
        assert np.array_equal(values, np.array(expected, dtype=np.float32))
    assert packed.shape == (None,)
    assert len(set(train.samples.lengths.tolist())) > 5


def test_the_section_of_the_modality_says_how_much_is_read(numbers, curves, tmp_path):
    short = prepare(Data(uri=str(curves / "target"), input={"longest": 4}), tmp_path / "short", modality="numbers")

    assert set(short.samples("train").lengths.tolist()) == {4}
    assert Dataset.open(short.path).given.longest == 4


def test_a_damaged_store_is_refused(packed):
    values = packed.path / "train.npy"
    content = bytearray(values.read_bytes())
    content[-1] ^= 1
    values.write_bytes(content)

    with pytest.raises(InputError, match=r"train.npy is damaged; prepare the data set again"):
        Dataset.open(packed.path).samples("train")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda offsets: offsets[:-1],
        lambda offsets: offsets + 1,
        lambda offsets: offsets[::-1].copy(),
        lambda offsets: offsets.astype(np.float64),
    ],
)
def test_offsets_that_do_not_fit_the_values_are_refused(tmp_path, spoil):
    arrays = [np.arange(n, dtype=np.float32) for n in (2, 0, 3)]
    write_ragged(tmp_path / "some.npy", arrays, [2, 0, 3], (), "float32")
    assert [each.tolist() for each in RaggedSamples(tmp_path / "some.npy", 3, (), "float32")[[2, 0]]] == [
        [0, 1, 2],
        [0, 1],
    ]

    offsets = np.load(tmp_path / "some.offsets.npy")
    np.save(tmp_path / "some.offsets.npy", spoil(offsets))

    with pytest.raises(InputError, match=r"does not hold 3 samples of float32"):
        RaggedSamples(tmp_path / "some.npy", 3, (), "float32")


# Models


def test_padding_changes_no_prediction(numbers, packed):
    bundle = pretrain(Pretraining(architecture="numbernet", epochs=1), packed, RunContext(state=None)).bundle
    samples = packed.samples("test")[:]

    alone = np.concatenate([bundle.predict_logits([each]) for each in samples])

    assert np.allclose(bundle.predict_logits(samples), alone, atol=1e-5)


def test_it_is_pretrained_ranked_and_transferred_and_baselines_learn(numbers, packed, curves, tmp_path):
    context = RunContext(state=None)
    source_data = prepare(Data(uri=str(curves / "source")), tmp_path / "source", modality="numbers")
    source = pretrain(Pretraining(architecture="numbernet", epochs=6), source_data, context).bundle
    source.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle")
    samples = packed.samples("test")[:5]
    assert np.array_equal(source.predict_logits(samples), again.predict_logits(samples))

    ranked = select_source([str(tmp_path / "bundle")], packed).chosen
    assert ranked.probe > 0.6
    for name in ("zero", "linear_probe", "partial", "full", "lp_ft", "gradual", "surgical", "wise_ft"):
        strategy = Strategy.of({"name": name, "strategy": name})
        trained = transfer(again, packed, strategy, training=TRAINING, context=context)
        assert trained.validation > 0.6, name
    for name in ("scratch", "classical"):
        assert BASELINES[name].fit(Like.of(again), packed, TRAINING, context).validation > 0.4, name


def test_an_export_reads_vectors_of_any_length(numbers, packed, tmp_path):
    bundle = pretrain(Pretraining(architecture="numbernet", epochs=1), packed, RunContext(state=None)).bundle

    difference = export(bundle, tmp_path / "model.onnx", digest="sha256:0")

    assert difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    batch = numbers.batch(packed.samples("test")[:3])
    (found,) = session.run(["probabilities"], {name: tensor.numpy() for name, tensor in batch.tensors.items()})
    assert np.allclose(found, bundle.predict_probabilities(packed.samples("test")[:3]), atol=1e-4)


def test_an_architecture_that_reads_something_else_is_refused(numbers, packed):
    with pytest.raises(InputError, match=r"convnet reads maps, and vectors are given as sequences; .* numbernet"):
        pretrain(Pretraining(architecture="convnet", epochs=1), packed, RunContext(state=None))


def test_keys_and_augmentations_of_another_modality_are_refused(numbers):
    recipe = {
        "name": "curves",
        "modality": "numbers",
        "source": {"candidates": ["x"]},
        "target": {"data": {"uri": "y"}},
    }

    with pytest.raises(InputError, match=r"target.data.input.size: unknown key; known here: longest"):
        Recipe.of({**recipe, "target": {"data": {"uri": "y", "size": 32}}})
    with pytest.raises(InputError, match=r"training.flip: vectors have no mirror"):
        Recipe.of({**recipe, "training": {"flip": True}})
    with pytest.raises(InputError, match=r"'affine' does not augment vectors; choose one of auto, none, scale"):
        Recipe.of({**recipe, "training": {"augmentation": "affine"}})


# The whole way


@pytest.mark.slow
def test_a_recipe_of_it_runs_is_compared_promoted_traced_predicted_and_served(
    curves, tmp_path_factory, monkeypatch, tmp_path
):
    monkeypatch.setenv("PYTHONPATH", str(installed(NUMBERS, tmp_path_factory.mktemp("site"))))
    recipe, workspace = tmp_path / "recipe.yaml", ("--workspace", str(tmp_path / "w"))
    recipe.write_text(RECIPE.format(root=curves))
    (tmp_path / "policy.yaml").write_text("{min_gain: null}\n")

    said = run_python(*CLI, "run", str(recipe), *workspace)
    board = json.loads(run_python(*CLI, "compare", "curves", "--json", *workspace))
    run_python(*CLI, "promote", "curves-target", "--policy", str(tmp_path / "policy.yaml"), *workspace)
    lineage = json.loads(run_python(*CLI, "lineage", "curves-target", "--json", *workspace))
    ranked = json.loads(
        run_python(*CLI, "rank", "--data", str(curves / "target"), "--modality", "numbers", "--candidates",
                   "models:/curves-source/1", "--json", *workspace)
    )  # fmt: skip
    table = tmp_path / "found.json"
    run_python(
        *CLI, "predict", "models:/curves-target@champion", str(curves / "target" / "rise"), "-o", str(table), *workspace
    )
    predicted = {row["path"]: row["label"] for row in json.loads(table.read_text())}
    served = run_python("-c", SERVED, f"sqlite:///{tmp_path}/w/mlflow.db", *predicted)

    strategies = {row["strategy"] for row in board}
    assert {"zero", "linear_probe", "full", "stage-by-stage", "one-stage", "scratch", "classical"} <= strategies
    assert max(row["accuracy"] for row in board) > 0.7
    assert lineage["source"]["uri"] == "models:/curves-source/1"
    assert ranked["source"].startswith("models:/curves-source/1")
    assert np.mean([label == "rise" for label in predicted.values()]) > 0.6
    assert json.loads(served) == list(predicted.values())
    assert "report" in said


SERVED = """
import base64, json, pathlib, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/curves-target@champion")
encoded = [base64.b64encode(pathlib.Path(each).read_bytes()).decode() for each in sys.argv[2:]]
print(json.dumps(model.predict({"numbers": np.array(encoded, dtype=object)})["label"].tolist()))
"""
