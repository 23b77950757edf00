"""A model of scikit-learn as a network predicts what scikit-learn does, and is kept and exported as any other."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from headstart.errors import InputError
from headstart.metrics.calibration import fit_temperature
from headstart.modalities import modality
from headstart.models import classical
from headstart.models.architectures import build_network, check_reads
from headstart.models.bundle import ModelBundle
from headstart.models.classical import classical_network, converted, lost_margins
from headstart.strategies.baselines.classical import _logits

IMAGE = modality("image")
PLAIN = IMAGE.plain(IMAGE.input(size=8, channels=1))
DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.images * 255 / 16).astype(np.uint8)[:600, :, :, None], DIGITS.target[:600]
MODELS = {
    "svc": (SVC(C=10.0, decision_function_shape="ovo"), ()),
    "svc of another width": (SVC(gamma=0.01, decision_function_shape="ovo"), ()),
    "forest": (RandomForestClassifier(20, random_state=0), ()),
    "logistic": (LogisticRegression(max_iter=500), ()),
    "logistic, scaled": (LogisticRegression(max_iter=500), ("scale",)),
    "logistic, turned": (LogisticRegression(max_iter=500), ("turn",)),
    "logistic, scaled and turned": (LogisticRegression(max_iter=500), ("scale", "turn")),
}


@pytest.fixture(params=[f"{name}, {classes} classes" for name in MODELS for classes in (2, 3, 10)])
def fitted(request):
    """A network, the samples that it has not seen, and scikit-learn's logits for them."""
    name, _, count = request.param.rpartition(", ")
    model, steps = MODELS[name]
    classes = int(count.split()[0])
    images, labels = IMAGES[classes > LABELS], LABELS[classes > LABELS]
    features = IMAGE.descriptors(PLAIN(IMAGE.batch(images)))["pixels"].numpy()
    made = {"scale": StandardScaler(), "turn": PCA(svd_solver="full")}
    fitted_steps = {}
    for step in steps:
        fitted_steps[step] = made[step].fit(features[::2])
        features = fitted_steps[step].transform(features)
    model.fit(features[::2], labels[::2])
    architecture, network = converted(model, IMAGE, "pixels", classes=classes, **fitted_steps)
    bundle = ModelBundle(network, architecture, "image", PLAIN, tuple("abcdefghij"[:classes]), 0.7)
    return bundle, images[1::2], _logits(model, features[1::2])


def test_it_predicts_what_scikit_learn_predicts(fitted):
    bundle, samples, expected = fitted
    assert bundle.predict_logits(samples) == pytest.approx(expected, abs=2e-3)
    assert bundle.predict_probabilities(samples) == pytest.approx(softmax(expected / 0.7, axis=1), abs=1e-4)


def test_a_class_loses_by_the_least_of_its_margins_against_the_others():
    # Of the pairs (0, 1), (0, 2) and (1, 2).
    margins = torch.tensor([[0.5, 1.0, -0.25], [1.0, -0.5, 0.75], [-2.0, 0.25, 0.5]])
    expected = [[0.0, -4.0, -8.0], [-4.0, -8.0, -6.0], [-16.0, 0.0, -4.0]]
    assert lost_margins(margins).tolist() == expected
    assert lost_margins(torch.tensor([[0.5], [-0.25]])).tolist() == [[0.0, -4.0], [-2.0, 0.0]]


def test_what_a_class_loses_by_tells_more_than_votes_do():
    features = IMAGE.descriptors(PLAIN(IMAGE.batch(IMAGES)))["pixels"].numpy()
    model = SVC(C=10.0, decision_function_shape="ovo").fit(features[:200], LABELS[:200])
    others, labels = features[200:], LABELS[200:]

    def loss(logits):
        scores = log_softmax(logits / fit_temperature(logits, labels), axis=1)
        return -scores[np.arange(len(labels)), labels].mean()

    margins = _logits(model, others)
    assert loss(margins) < 0.75 * loss(model.set_params(decision_function_shape="ovr").decision_function(others))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_bundle_of_votes_answers_as_it_did(classes):
    """Those that were written first have one-against-rest values."""
    images, labels = IMAGES[classes > LABELS], LABELS[classes > LABELS]
    features = IMAGE.descriptors(PLAIN(IMAGE.batch(images)))["pixels"].numpy()
    model = SVC(C=10.0).fit(features[::2], labels[::2])
    architecture, network = converted(model, IMAGE, "pixels", classes=classes)
    kept = network.stages[0][1].state_dict()
    if classes == 2:
        kept |= {name: -kept[name] for name in ("weight", "bias")}
    older = classical_network(architecture.replace("margin_svc", "svc"), classes=classes)
    older.stages[0][1].load_state_dict(kept)
    bundle = ModelBundle(older.eval(), "classical", "image", PLAIN, tuple("abcdefghij"[:classes]))
    expected = model.decision_function(features[1::2])
    expected = np.stack([-expected, expected], axis=1) if classes == 2 else expected
    assert bundle.predict_logits(images[1::2]) == pytest.approx(expected, abs=2e-3)


def test_its_bundle_is_read_back(fitted, tmp_path):
    bundle, samples, _ = fitted
    bundle.save(tmp_path / "bundle")
    found = ModelBundle.load(tmp_path / "bundle")
    assert found.architecture == bundle.architecture
    assert np.array_equal(found.predict_logits(samples), bundle.predict_logits(samples))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["svc", "forest", "logistic, scaled"])
@pytest.mark.parametrize("kind", ["pixels", "gradients"])
def test_it_is_exported_as_one_file(name, kind, tmp_path):
    pytest.importorskip("onnxruntime")
    from headstart.models.onnx import export

    model, steps = MODELS[name]
    features = IMAGE.descriptors(PLAIN(IMAGE.batch(IMAGES)))[kind].numpy()
    scale = StandardScaler().fit(features) if steps else None
    model.fit(scale.transform(features) if scale else features, LABELS)
    architecture, network = converted(model, IMAGE, kind, classes=10, scale=scale)
    bundle = ModelBundle(network, architecture, "image", PLAIN, tuple("abcdefghij"))
    assert export(bundle, tmp_path / "model.onnx", digest="sha256:1") < 1e-4


def test_one_that_is_too_large_is_not_kept(monkeypatch):
    monkeypatch.setattr(classical, "_MOST_VALUES", 1000)
    features = IMAGE.descriptors(PLAIN(IMAGE.batch(IMAGES)))["pixels"].numpy()
    assert converted(SVC().fit(features, LABELS), IMAGE, "pixels", classes=10) is None


@pytest.mark.parametrize(
    "name",
    [
        "classical/image/pixels/svc/0x64",
        "classical/image/pixels/svc/1000000x1000000",
        "classical/image/pixels/svc/-3x-4",
        f"classical/image/pixels/forest/{'9' * 5000}x1x1",
        "classical/image/pixels/svc",
        "classical/image/pixels/svc/3",
        "classical/image/pixels/pickle/3x4",
        "classical/image/pixels/forest/2x3x4x5",
    ],
)
def test_a_name_that_is_none_is_refused_with_the_form_that_it_should_have(name):
    form = "classical/<modality>/<descriptors>/<logistic, margin_svc, svc, forest, ridge or svr>/<sizes>"
    with pytest.raises(InputError, match=form):
        build_network(name, classes=2, channels=1)


def test_a_forest_goes_to_places_inside_of_itself_alone():
    network = build_network("classical/image/pixels/forest/1x3x2", classes=2, channels=1)
    network.stages[0][1].left.fill_(10**6)
    with pytest.raises((IndexError, RuntimeError)):
        network(torch.zeros(1, 1, 8, 8))


def test_descriptors_that_the_modality_does_not_have_are_refused():
    with pytest.raises(InputError, match="pictures have no descriptors 'wavelets'"):
        build_network("classical/image/wavelets/svc/3x4", classes=2, channels=1)(torch.zeros(1, 1, 8, 8))


def test_it_is_no_source():
    with pytest.raises(InputError, match="nothing to transfer; choose another source"):
        check_reads("classical/image/pixels/svc/3x4", IMAGE)
