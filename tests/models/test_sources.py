import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.reference import published_architecture
from headstart.models.sources import (
    Background,
    load_source,
    pin_source,
    pin_sources,
    published_background,
)
from headstart.storage import s3

SHUFFLENET = "torchvision://shufflenet_v2_x0_5/IMAGENET1K_V1"
SAMPLES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "a bundle"
    ModelBundle(
        convnet(classes=2, channels=1), "convnet", "image", Preprocessing(16, 1, (0.5,), (0.5,)), ("a", "b")
    ).save(path)
    return path


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torch's hub looks for weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put_weights(checkpoints: Path, name: str, **options: object) -> tuple[torch.nn.Module, Path]:
    """A random model of torchvision and its weights file, named as torchvision's is."""
    torch.manual_seed(0)
    model = models.get_model(name, **options)
    url = models.get_model_weights(name)["IMAGENET1K_V1"].url
    torch.save(model.state_dict(), checkpoints / url.rpartition("/")[2])
    return model.eval(), checkpoints / url.rpartition("/")[2]


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_bundle_is_a_source_by_path_and_by_file_uri(bundle, form):
    pinned = pin_source(form(bundle))
    assert pinned == f"{bundle.as_uri()}#sha256={bundle_digest(bundle).removeprefix('sha256:')}"
    assert load_source(pinned).classes == ("a", "b")
    assert load_source(form(bundle)).classes == ("a", "b")


@pytest.fixture
def store(bundle, monkeypatch) -> list[str]:
    """The bundle at s3://models/first, in place of S3, and what was downloaded of it."""
    downloaded = []

    def download(uri: str, path: Path) -> None:
        folder, _, name = uri.rpartition("/")
        if folder != "s3://models/first":
            raise s3.UnreadableObject(f"there is no object {uri}")
        downloaded.append(name)
        shutil.copyfile(bundle / name, path)

    monkeypatch.setattr(s3, "download", download)
    return downloaded


@pytest.mark.parametrize("uri", ["s3://models/first", "s3://models/first/"])
def test_a_bundle_in_s3_is_pinned_without_its_weights_and_loaded_whole(bundle, store, uri):
    pinned = pin_source(uri)
    assert pinned == f"{uri}#sha256={bundle_digest(bundle).removeprefix('sha256:')}"
    assert store == ["SHA256SUMS"]
    assert load_source(pinned).classes == ("a", "b")
    with pytest.raises(InputError, match="was pinned"):
        load_source(f"{uri}#sha256=00")


def test_a_prefix_in_s3_without_a_bundle_is_named(store):
    for function in (load_source, pin_source):
        with pytest.raises(InputError, match="s3://models/none is not a model bundle: there is no object"):
            function("s3://models/none")


def test_a_pinned_uri_stays_as_it_is(bundle):
    pinned = pin_source(str(bundle))
    assert pin_source(pinned) == pinned


def test_a_bundle_that_changed_after_it_was_pinned_is_refused(bundle):
    pinned = pin_source(str(bundle))
    changed = ModelBundle.load(bundle)
    changed.classes = ("a", "c")
    changed.save(bundle)
    with pytest.raises(InputError, match=r"was pinned to sha256:.* and its content is sha256:.* now"):
        load_source(pinned)


def test_a_registered_model_goes_through_the_registry(bundle):
    digest = bundle_digest(bundle).removeprefix("sha256:")
    pinned = pin_source("models:/digits@champion", resolve_registered=lambda uri: f"models:/digits/3#sha256={digest}")
    assert pinned == f"models:/digits/3#sha256={digest}"
    asked = []
    loaded = load_source(pinned, fetch_registered=lambda uri: asked.append(uri) or bundle)
    assert asked == ["models:/digits/3"]
    assert loaded.architecture == "convnet"


def test_a_search_becomes_what_it_finds_and_every_source_is_pinned_once(bundle):
    found = {"models:/*-source": ["models:/a-source/1#sha256=1", "models:/b-source/2#sha256=2"]}
    pinned = pin_sources(
        ["models:/b-source/2#sha256=2", str(bundle), "models:/*-source", str(bundle)],
        search_registered=lambda pattern: found[pattern],
    )
    assert pinned == ("models:/b-source/2#sha256=2", pin_source(str(bundle)), "models:/a-source/1#sha256=1")


@pytest.mark.parametrize("search", ["models:/*-source", "models:/digits-sourc?", "models:/digits-source[domain=mail]"])
def test_a_search_without_a_registry_is_refused(search):
    with pytest.raises(InputError, match="no registry is at hand"):
        pin_sources([search])


def test_a_bundles_path_may_have_the_marks_of_a_search(bundle):
    odd = bundle.rename(bundle.parent / "which [one] *")
    assert pin_sources([str(odd)]) == (pin_source(str(odd)),)


def test_what_torchvision_publishes_about_weights_is_their_accuracy():
    published = models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert published_background(f"{SHUFFLENET}#sha256=12").accuracy == pytest.approx(published / 100)
    assert published_background(SHUFFLENET).learned_from is None
    assert published_background("/some/bundle") == Background()


@pytest.mark.parametrize(
    ("uri", "architecture"),
    [
        (f"{SHUFFLENET}#sha256=12", "shufflenet_v2_x0_5"),
        ("timm://resnet18.a1_in1k@0123#sha256=12", "timm/resnet18.a1_in1k"),
        ("hf://microsoft/resnet-50", "transformers/"),
        ("s3://models/x.pth?architecture=timm/test_vit", "timm/test_vit"),
        ("models:/digits-source/1", None),
        ("/some/bundle", None),
    ],
)
def test_the_reference_of_a_model_from_elsewhere_tells_its_architecture(uri, architecture):
    assert published_architecture(uri) == architecture


def test_a_registered_model_that_is_not_the_pinned_one_is_refused(bundle):
    with pytest.raises(InputError, match="was pinned"):
        load_source("models:/digits/3#sha256=00", fetch_registered=lambda uri: bundle)


def test_a_registered_model_without_a_registry_is_refused():
    for function in (load_source, pin_source):
        with pytest.raises(InputError, match="no registry is at hand"):
            function("models:/digits/3")


def test_a_source_of_another_modality_is_refused(bundle):
    with pytest.raises(InputError, match="reads image data, not text"):
        load_source(str(bundle), modality="text")


@pytest.mark.parametrize("uri", ["gs://bucket/bundle", "ftp://example.org/model", "file://elsewhere/bundle"])
def test_a_reference_of_another_kind_is_refused_with_the_kinds_that_are_understood(uri):
    for function in (load_source, pin_source):
        with pytest.raises(InputError, match="is not a source that can be read; give"):
            function(uri)


def test_torchvisions_weights_come_from_the_hub_folder_with_their_preprocessing_and_classes(checkpoints):
    model, file = put_weights(checkpoints, "shufflenet_v2_x0_5")
    pinned = pin_source(SHUFFLENET)
    assert pinned == f"{SHUFFLENET}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}"
    before = torch.get_rng_state()
    bundle = load_source(pinned)
    assert torch.equal(torch.get_rng_state(), before)
    assert (bundle.preprocessing.size, bundle.preprocessing.mean) == (224, (0.485, 0.456, 0.406))
    assert (len(bundle.classes), bundle.classes[0]) == (1000, "tench")
    assert (bundle.provenance["source"], bundle.provenance["head"]) == (pinned, "trained")
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(bundle.network(image), model(image), atol=1e-6)


def test_torchvisions_weights_that_changed_after_they_were_pinned_are_refused(checkpoints):
    _, file = put_weights(checkpoints, "shufflenet_v2_x0_5")
    pinned = pin_source(SHUFFLENET)
    shutil.copy(put_weights(checkpoints, "shufflenet_v2_x1_0")[1], file)
    with pytest.raises(InputError, match="was pinned"):
        load_source(pinned)


def test_a_source_without_its_own_head_says_so_and_what_it_left_out(checkpoints):
    model, _ = put_weights(checkpoints, "squeezenet1_1")
    bundle = load_source("torchvision://squeezenet1_1/IMAGENET1K_V1")
    assert (bundle.provenance["head"], bundle.provenance["left_out"]) == ("none", ["classifier."])
    with torch.inference_mode():
        image = torch.randn(1, 3, 64, 64)
        assert torch.allclose(bundle.network.features(image), model.features(image).mean(dim=(2, 3)), atol=1e-6)


def test_googlenet_reads_images_as_torchvisions_trained_one_does(checkpoints):
    model, _ = put_weights(checkpoints, "googlenet", aux_logits=True, init_weights=False, transform_input=True)
    weights = models.get_model_weights("googlenet")["IMAGENET1K_V1"]
    image = torch.from_numpy(SAMPLES).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (weights.transforms().mean, weights.transforms().std))
    bundle = load_source("torchvision://googlenet/IMAGENET1K_V1")
    bundle.preprocessing = Preprocessing(64, 3, bundle.preprocessing.mean, bundle.preprocessing.std)
    with torch.inference_mode():
        expected = model((image - mean) / std).numpy()
    assert np.allclose(bundle.predict_logits(SAMPLES), expected, rtol=1e-3, atol=1e-5)


def test_a_weights_file_that_would_run_code_is_refused(checkpoints, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    url = models.get_model_weights("shufflenet_v2_x0_5")["IMAGENET1K_V1"].url
    for content in (pickle.dumps(Trap(), protocol=2), b"", b"no weights"):
        (checkpoints / url.rpartition("/")[2]).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            load_source(SHUFFLENET)
    torch.save({"weight": Trap()}, checkpoints / url.rpartition("/")[2])
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_source(SHUFFLENET)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("torchvision://resnet19/IMAGENET1K_V1", "no classification model 'resnet19'"),
        ("torchvision://resnet18/IMAGENET9K", "no weights 'IMAGENET9K' but IMAGENET1K_V1"),
        ("torchvision://resnet18", "no weights ''"),
    ],
)
def test_unknown_torchvision_names_are_answered_with_known_ones(uri, message):
    for function in (load_source, pin_source):
        with pytest.raises(InputError, match=message):
            function(uri)
