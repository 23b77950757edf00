import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.convnet import convnet
from headstart.models.prediction import predict_files, write_table
from headstart.models.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def model() -> ModelBundle:
    """An untrained network that reads grey pictures, with enough weight in its head to tell some apart."""
    torch.manual_seed(0)
    network = convnet(classes=3, channels=1)
    torch.nn.init.normal_(network.head.weight, std=5.0)
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    return ModelBundle(network.eval(), "convnet", "image", preprocessing, ("cat", "dog", "owl"))


def picture(path: Path, content: int, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(content).integers(0, 256, (side, side), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    return [picture(tmp_path / "pictures" / f"{name}.png", name) for name in (3, 1, 2)]


def test_files_are_answered_in_the_order_given_with_the_models_own_probabilities(model, pictures):
    table = predict_files(model, pictures)
    samples = np.stack([np.asarray(Image.open(path))[:, :, None] for path in pictures])
    expected = model.predict_probabilities(samples)
    assert list(table) == ["path", "label", "probability", "p_cat", "p_dog", "p_owl", "error"]
    assert table["path"].tolist() == [str(path) for path in pictures]
    assert table[["p_cat", "p_dog", "p_owl"]].to_numpy(float) == pytest.approx(expected, abs=1e-5)
    assert table["label"].tolist() == [model.classes[index] for index in expected.argmax(1)]
    assert table["probability"].tolist() == pytest.approx(expected.max(axis=1), abs=1e-5)
    assert table["error"].tolist() == ["", "", ""]


def test_folders_are_walked_by_name_and_what_is_no_picture_is_passed_over(model, pictures, tmp_path):
    picture(tmp_path / "pictures" / "deep" / "er" / "4.PNG", 4)
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    table = predict_files(model, [tmp_path / "pictures"])
    names = [str(Path(path).relative_to(tmp_path / "pictures")) for path in table["path"]]
    assert names == ["1.png", "2.png", "3.png", "deep/er/4.PNG"]


def test_a_picture_of_any_size_and_colour_is_read_as_the_model_needs_it(model, tmp_path):
    large = picture(tmp_path / "large.png", 5, side=50)
    Image.open(large).convert("RGB").save(tmp_path / "colour.png")
    table = predict_files(model, [large, tmp_path / "colour.png"])
    assert table["error"].tolist() == ["", ""]
    assert table["p_cat"][0] == pytest.approx(table["p_cat"][1], abs=1e-4)


def test_what_cannot_be_read_has_a_reason_and_no_label_and_disturbs_no_other(model, pictures, tmp_path):
    broken, text = tmp_path / "broken.png", tmp_path / "notes.txt"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    text.write_text("not a picture")
    table = predict_files(model, [pictures[0], broken, text, pictures[1]])
    alone = predict_files(model, pictures[:2])
    assert [bool(error) for error in table["error"]] == [False, True, True, False]
    assert table["label"][1:3].isna().all()
    assert table["probability"][1:3].isna().all()
    assert table.loc[[0, 3], "label"].tolist() == alone["label"].tolist()
    assert table.loc[[0, 3], "p_dog"].tolist() == pytest.approx(alone["p_dog"].tolist(), abs=1e-5)


def test_where_nothing_can_be_read_every_file_still_has_its_row(model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    table = predict_files(model, [tmp_path / "broken.png"])
    assert len(table) == 1
    assert table["error"][0]


def test_more_files_than_one_batch_holds_are_all_answered(model, tmp_path):
    one = picture(tmp_path / "one.png", 1)
    table = predict_files(model, [one] * 260)
    assert table["p_owl"].tolist() == pytest.approx([table["p_owl"][0]] * 260, abs=1e-5)


def test_a_path_that_does_not_exist_and_a_folder_without_pictures_are_refused(model, pictures, tmp_path):
    with pytest.raises(InputError, match=r"none does not exist"):
        predict_files(model, [pictures[0], tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"There is no image file in .*empty"):
        predict_files(model, [tmp_path / "empty"])


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_table_is_written_in_the_form_that_the_name_asks_for(model, pictures, tmp_path, suffix):
    table, path = predict_files(model, pictures), tmp_path / f"table.{suffix}"
    write_table(table, path)
    read = {
        "csv": lambda: pd.read_csv(path, keep_default_na=False),
        "json": lambda: pd.DataFrame(json.loads(path.read_text())),
        "parquet": lambda: pd.read_parquet(path),
    }[suffix]()
    assert read["label"].tolist() == table["label"].tolist()
    assert read["error"].tolist() == ["", "", ""]
    assert read["p_cat"].tolist() == pytest.approx(table["p_cat"].tolist(), abs=1e-6)


def test_a_name_that_asks_for_no_known_form_is_refused(model, pictures, tmp_path):
    with pytest.raises(InputError, match=r"table.xlsx: the file's name must end in .csv, .json or .parquet"):
        write_table(predict_files(model, pictures), tmp_path / "table.xlsx")
    assert not (tmp_path / "table.xlsx").exists()
