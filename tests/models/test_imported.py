"""Models from elsewhere: what they compute, from a file's bytes to logits, is what their own library computes."""

import io
import json
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from headstart.errors import InputError
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle
from headstart.models.importing import import_source
from headstart.models.sources import load_source, pin_source
from tests.models.schema import validate

TINY_VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def photograph(width: int, height: int) -> bytes:
    """A JPEG of smooth random colours."""
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


PHOTOGRAPHS = [photograph(301, 200), photograph(180, 333), photograph(96, 96)]


def logits(bundle: ModelBundle) -> np.ndarray:
    """What a bundle computes of the photographs' bytes."""
    decoded = [modality("image").decode(raw, bundle.preprocessing.given).values for raw in PHOTOGRAPHS]
    return bundle.predict_logits(np.stack(decoded))


def timms_logits(model: nn.Module) -> np.ndarray:
    """What timm computes of them by its own evaluation."""
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model), is_training=False)
    inputs = torch.stack([transform(Image.open(io.BytesIO(raw)).convert("RGB")) for raw in PHOTOGRAPHS])
    with torch.inference_mode():
        return model.eval()(inputs).numpy()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, without a network: a repository's files go to the folder that `put_repository` makes."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_repository(hub: Path, name: str) -> Path:
    """The folder of a repository's files in a cache, laid out as the hub's own client lays it out."""
    root = hub / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def vit(folder: Path, **settings: object) -> nn.Module:
    """A tiny vision transformer with random weights that transformers saved to a folder, and its processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    names = {0: "cat", 1: "dog", 2: "owl"}
    config = ViTConfig(**TINY_VIT, id2label=names, label2id={name: number for number, name in names.items()})
    model = ViTForImageClassification(config).eval()
    nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    ViTImageProcessor(
        size={"height": 32, "width": 32}, resample=3, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]
    ).save_pretrained(folder)
    return model


def test_timms_published_weights_compute_what_timm_computes_from_the_bytes_on(hub, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    save_file(model.state_dict(), put_repository(hub, "timm/test_resnet.r160_in1k") / "model.safetensors")

    imported = import_source("timm://test_resnet.r160_in1k", tmp_path / "bundle")

    assert imported.reference.startswith(f"timm://test_resnet.r160_in1k@{COMMIT}#sha256=")
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert np.abs(logits(bundle) - timms_logits(model)).max() < 1e-5
    assert (len(bundle.classes), bundle.classes[0]) == (1000, "tench, Tinca tinca")
    assert bundle.provenance["license"] == model.pretrained_cfg["license"]
    assert bundle.provenance["revision"] == COMMIT
    assert len(bundle.network.stages) > 4


def test_what_transformers_saved_computes_what_transformers_computes(tmp_path):
    model = vit(tmp_path / "saved")

    imported = import_source(str(tmp_path / "saved"), tmp_path / "bundle")

    bundle = ModelBundle.load(tmp_path / "bundle")
    inputs = bundle.preprocessing(torch.from_numpy(bundle.preprocessing.noise(3)))
    with torch.inference_mode():
        expected = model(pixel_values=inputs).logits.numpy()
    assert imported.difference < 1e-5
    assert np.abs(bundle.predict_logits(bundle.preprocessing.noise(3)) - expected).max() < 1e-5
    assert bundle.classes == ("cat", "dog", "owl")
    assert len(bundle.network.stages) == 4
    assert bundle.preprocessing.described == "32 × 32, RGB"
    assert (bundle.preprocessing.fitted_by, bundle.preprocessing.interpolation) == ("stretch", "bicubic")
    assert bundle.preprocessing.mean == pytest.approx((0.5, 0.4, 0.3))


def test_a_repository_of_the_hub_is_pinned_to_its_commit_and_content(hub):
    folder = put_repository(hub, "somebody/tiny")
    vit(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [vision]\n---\n# tiny\n")

    pinned = pin_source("hf://somebody/tiny")

    assert pinned.startswith(f"hf://somebody/tiny@{COMMIT}#sha256=")
    bundle = load_source(pinned)
    assert (bundle.provenance["license"], bundle.provenance["source"]) == ("apache-2.0", pinned)
    changed = load_file(folder / "model.safetensors") | {"classifier.bias": torch.ones(3)}
    save_file(changed, folder / "model.safetensors")
    with pytest.raises(InputError, match="was pinned"):
        load_source(pinned)


def test_the_documented_schema_describes_what_a_bundle_says_of_itself(tmp_path):
    vit(tmp_path / "saved")
    import_source(str(tmp_path / "saved"), tmp_path / "bundle")
    description = json.loads((tmp_path / "bundle" / "model.json").read_text())

    validate(description)

    with pytest.raises(jsonschema.ValidationError):
        validate({**description, "temperature": 0})


def test_an_encoder_without_a_classifier_is_a_source_without_a_head(tmp_path):
    model = vit(tmp_path / "saved")
    model.vit.save_pretrained(tmp_path / "encoder")

    bundle = load_source(str(tmp_path / "encoder"))

    assert (bundle.classes, bundle.provenance["head"]) == ((), "none")
    inputs = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model.vit(inputs).last_hidden_state[:, 0]
        assert torch.allclose(bundle.network.features(inputs), expected, atol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
def test_a_file_of_weights_is_read_under_any_prefix_and_with_any_number_of_classes(tmp_path, prefix, suffix):
    torch.manual_seed(0)
    model = models.resnet18(num_classes=7).eval()
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"epoch": 3, "state_dict": state}, file)
    else:
        save_file(state, file)

    bundle = load_source(f"{file}?architecture=resnet18")

    inputs = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(bundle.network(inputs), model(inputs), atol=1e-5)
    assert bundle.classes == tuple("0123456")


def test_a_network_whose_widths_are_tensors_is_read_too(tmp_path):
    torch.manual_seed(0)
    model = models.regnet_y_400mf(num_classes=7).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")

    bundle = load_source(f"{tmp_path}/weights.safetensors?architecture=regnet_y_400mf")

    inputs = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(bundle.network(inputs), model(inputs), atol=1e-5)


def test_a_file_without_a_head_gives_features_and_what_it_holds_beside_the_network_is_left_out(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False, num_classes=0).eval()
    state = {f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    save_file(state | {"projector.weight": torch.ones(2, 2)}, tmp_path / "ssl.safetensors")

    bundle = load_source(f"{tmp_path / 'ssl.safetensors'}?architecture=timm/test_vit")

    inputs = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.allclose(bundle.network.features(inputs), model(inputs), atol=1e-5)
    assert (bundle.classes, bundle.provenance["left_out"]) == ((), ["projector"])
    assert bundle.provenance["license"] is None


def test_weights_of_another_network_are_refused_by_the_names_of_their_tensors(tmp_path):
    save_file(models.resnet18().state_dict(), tmp_path / "r18.safetensors")
    with pytest.raises(InputError, match=r"torchvision's resnet34: tensors are .* missing \(layer1\.2\."):
        load_source(f"{tmp_path / 'r18.safetensors'}?architecture=resnet34")


@pytest.mark.parametrize("architecture", ["timm/test_resnet", "timm/test_efficientnet", "resnet18"])
def test_a_convolutional_network_under_another_librarys_names_is_read_in_order(architecture, tmp_path):
    torch.manual_seed(0)
    make = models.resnet18 if architecture == "resnet18" else partial(timm.create_model, architecture[5:])
    model = make(num_classes=7).eval()
    state = {
        f"_layer{n}.{name.rpartition('.')[2]}": value for n, (name, value) in enumerate(model.state_dict().items())
    }
    torch.save(state, tmp_path / "theirs.pth")

    bundle = load_source(f"{tmp_path / 'theirs.pth'}?architecture={architecture}")

    inputs = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(bundle.network(inputs), model(inputs), atol=1e-5)
    assert (len(bundle.classes), bundle.provenance["names"]) == (7, "in order")


def test_names_are_not_guessed_where_order_may_differ_or_a_shape_does_not_fit(tmp_path):
    for name, change in (("test_vit", None), ("test_resnet", "swapped"), ("test_resnet", "short")):
        state = timm.create_model(name, num_classes=7).state_dict()
        renamed = [(f"_layer{n}.{key.rpartition('.')[2]}", value) for n, (key, value) in enumerate(state.items())]
        if change == "swapped":
            renamed[0], renamed[-2] = renamed[-2], renamed[0]
        torch.save(dict(renamed[1:] if change == "short" else renamed), tmp_path / "theirs.pth")
        with pytest.raises(InputError, match=r"does not hold the weights of timm's test_"):
            load_source(f"{tmp_path / 'theirs.pth'}?architecture=timm/{name}")


def test_a_file_whose_architecture_is_not_named_says_how_to_name_it(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"does not say whose; name their architecture"):
        load_source(str(tmp_path / "a.safetensors"))


def test_a_model_that_the_cache_has_not_says_what_to_place_where(hub):
    with pytest.raises(
        InputError, match=r"hf://nobody/nothing .*run `hf download nobody/nothing` and copy that folder here"
    ):
        pin_source("hf://nobody/nothing")


def test_a_pinned_source_is_fetched_once_into_the_state(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    vit(put_repository(hub, "somebody/tiny"))
    pinned = pin_source("hf://somebody/tiny")
    first = load_source(pinned)
    for file in sorted(hub.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()

    again = load_source(pinned)

    inputs = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.network(inputs), first.network(inputs))


def test_a_folder_of_timms_own_format_is_read_with_its_settings(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False, num_classes=4, img_size=96).eval()
    cfg = {**model.pretrained_cfg, "input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3]}
    (tmp_path / "saved").mkdir()
    save_file(model.state_dict(), tmp_path / "saved" / "model.safetensors")
    config = {
        "architecture": "test_vit", "num_classes": 4, "model_args": {"img_size": 96}, "pretrained_cfg": cfg,
        "label_names": ["a", "b", "c", "d"],
    }  # fmt: skip
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))

    bundle = load_source(str(tmp_path / "saved"))

    inputs = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(bundle.network(inputs), model(inputs), atol=1e-5)
    assert bundle.classes == ("a", "b", "c", "d")
    assert (bundle.preprocessing.size, bundle.preprocessing.mean) == (96, (0.1, 0.2, 0.3))
