"""`load(…).predict(…)`: one answer for a picture, in whatever form it comes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import headstart as hs
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle

COLUMNS = ["p_cat", "p_dog", "p_owl"]


@pytest.fixture
def model(tmp_path: Path) -> hs.Model:
    torch.manual_seed(0)
    network = convnet(classes=3, channels=3)
    torch.nn.init.normal_(network.head.weight, std=5.0)
    reads = Preprocessing(size=16, channels=3, mean=(0.5,) * 3, std=(0.3,) * 3)
    ModelBundle(network.eval(), "convnet", "image", reads, ("cat", "dog", "owl")).save(tmp_path / "bundle")
    return hs.load(tmp_path / "bundle")


@pytest.fixture
def pixels() -> np.ndarray:
    """Four pictures of another size than the model reads."""
    return np.random.default_rng(0).integers(0, 256, (4, 40, 30, 3), dtype=np.uint8)


@pytest.fixture
def files(pixels: np.ndarray, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(4)]
    paths[0].parent.mkdir()
    for path, values in zip(paths, pixels, strict=True):
        Image.fromarray(values).save(path)
    return paths


def test_paths_bytes_pictures_arrays_and_tables_have_the_same_answers(model, pixels, files):
    expected = model.predict(files)
    pictures = [Image.fromarray(values) for values in pixels]

    for form in (
        files[0].parent,
        str(files[0].parent),
        [path.read_bytes() for path in files],
        pictures,
        pixels,
        list(pixels),
        iter(pictures),
        [files[0], files[1].read_bytes(), pictures[2], pixels[3]],
        pd.DataFrame({"path": files}),
        pd.DataFrame({"image": pictures}),
        pd.DataFrame({"image": [path.read_bytes() for path in files], "path": "elsewhere"}),
    ):
        table = model.predict(form)
        assert table["error"].tolist() == [""] * 4
        assert table["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(table[COLUMNS], expected[COLUMNS], atol=1e-6)


def test_one_picture_is_one_row(model, pixels, files):
    for form in (files[0], files[0].read_bytes(), Image.open(files[0]), pixels[0], pixels[0, :, :, 0]):
        assert len(model.predict(form)) == 1


def test_a_picture_that_is_turned_by_its_exif_is_turned_from_memory_too(model, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[0]).save(tmp_path / "turned.png", exif=exif)

    np.testing.assert_allclose(
        model.predict(Image.open(tmp_path / "turned.png"))[COLUMNS], model.predict(tmp_path / "turned.png")[COLUMNS]
    )


def test_a_table_keeps_its_index_so_that_answers_can_be_joined(model, files):
    table = pd.DataFrame({"path": files}, index=["w", "x", "y", "z"])

    assert table.join(model.predict(table)[["label"]])["label"].notna().all()


def test_a_sample_that_cannot_be_read_has_a_reason_and_the_others_an_answer(model, files):
    table = model.predict([files[0].read_bytes(), b"no picture", files[1].read_bytes()])

    assert table["path"].tolist() == ["#1", "#2", "#3"]
    assert table["label"].notna().tolist() == [True, False, True]
    assert "not an image" in table["error"][1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (7, "int is no picture"),
        ({"path": "a.png"}, "dict is no picture"),
        ([None], "NoneType is no picture"),
        ([], "no picture to predict"),
        (pd.DataFrame({"file": ["a.png"]}), "has no column image or path"),
        (np.zeros((8, 8), np.float32), "give uint8"),
        (np.zeros((2, 3, 4, 5, 6), np.uint8), "of shape"),
        ("nowhere/at-all.png", "does not exist"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_sample_is_refused_in_a_sentence(model, data, said):
    with pytest.raises(hs.InputError, match=said):
        model.predict(data)


def test_features_are_one_vector_a_sample_the_same_in_every_form(model, pixels, files):
    vectors = model.features(files)

    assert vectors.shape == (4, model.bundle.network.feature_dim)
    np.testing.assert_allclose(model.features(pixels), vectors, atol=1e-5)


def test_a_model_says_what_it_is(model):
    assert repr(model).startswith("<Model file://")
    assert "convnet, reads 16 × 16, RGB, 3 classes" in repr(model)
    assert model.digest.startswith("sha256:")
