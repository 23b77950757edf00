import copy
import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle, NotFinite
from headstart.models.inputs import raw_samples
from headstart.models.prediction import answers, predict, probability_columns, write_table
from headstart.storage import s3


@pytest.fixture(scope="module")
def model() -> ModelBundle:
    """An untrained network that reads grey pictures, with enough weight in its head to tell some apart."""
    torch.manual_seed(0)
    network = convnet(classes=3, channels=1)
    torch.nn.init.normal_(network.head.weight, std=5.0)
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    return ModelBundle(network.eval(), "convnet", "image", preprocessing, ("cat", "dog", "owl"), temperature=2.0)


def picture(path: Path, content: int, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(content).integers(0, 256, (side, side), dtype=np.uint8)).save(path)
    return path


def predict_files(model: ModelBundle, paths: list[Path], **options: int) -> pd.DataFrame:
    return pd.concat(predict(model, raw_samples([str(path) for path in paths], "image"), **options), ignore_index=True)


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


@pytest.mark.parametrize("batch_size", [1, 2, 3, 256])
def test_samples_of_any_number_of_batches_are_all_answered(model, pictures, tmp_path, batch_size):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    paths = [*pictures, tmp_path / "broken.png"]
    whole, table = predict_files(model, paths), predict_files(model, paths, batch_size=batch_size)
    assert table["path"].tolist() == whole["path"].tolist()
    assert table["label"].tolist()[:3] == whole["label"].tolist()[:3]
    assert table["p_owl"].tolist()[:3] == pytest.approx(whole["p_owl"].tolist()[:3], abs=1e-5)
    assert [bool(error) for error in table["error"]] == [False, False, False, True]


def test_no_more_than_a_batch_is_read_ahead(model, pictures):
    asked = []

    def samples():
        for number in range(10):
            asked.append(number)
            yield from raw_samples([str(pictures[0])], "image")

    tables = predict(model, samples(), batch_size=2)
    for done in range(1, 4):
        assert len(next(tables)) == 2
        assert len(asked) == 2 * done


def test_an_answer_names_the_most_probable_class_and_all_probabilities(model):
    table = answers(model, np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], dtype=np.float32))
    assert list(table) == ["label", "probability", "p_cat", "p_dog", "p_owl"]
    assert table["label"].tolist() == ["dog", "cat"]
    assert table["probability"].tolist() == pytest.approx([0.7, 0.6])
    assert table["p_owl"].tolist() == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize("damage", ["weights", "mean", "deviation", "temperature"])
def test_a_model_whose_results_are_no_numbers_is_refused(model, damage):
    damaged, samples = copy.deepcopy(model), np.zeros((2, 16, 16, 1), dtype=np.uint8)
    if damage == "weights":
        damaged.network.head.weight.data[0, 0] = float("nan")
    elif damage == "mean":
        damaged.preprocessing = Preprocessing(size=16, channels=1, mean=(float("nan"),), std=(0.3,))
    elif damage == "deviation":
        damaged.preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(float("nan"),))
    else:
        damaged.temperature = 1e-45
    with pytest.raises(NotFinite, match=r"The model's results are no numbers.*; take another version"):
        damaged.predict_probabilities(samples)
    if damage != "temperature":
        with pytest.raises(NotFinite):
            damaged.predict_logits(samples)
    if damage in ("mean", "deviation"):
        with pytest.raises(NotFinite):
            damaged.predict_features(samples)


def test_classes_that_share_a_name_keep_a_column_each():
    assert probability_columns(["crane", "cat", "crane"]) == ["p_crane_0", "p_cat", "p_crane_2"]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_table_is_written_in_the_form_that_the_name_asks_for(model, pictures, tmp_path, suffix):
    table, path = predict_files(model, pictures), tmp_path / f"table.{suffix}"
    write_table(table, str(path))
    read = {
        "csv": lambda: pd.read_csv(path, keep_default_na=False),
        "json": lambda: pd.DataFrame(json.loads(path.read_text())),
        "parquet": lambda: pd.read_parquet(path),
    }[suffix]()
    assert read["label"].tolist() == table["label"].tolist()
    assert read["error"].tolist() == ["", "", ""]
    assert read["p_cat"].tolist() == pytest.approx(table["p_cat"].tolist(), abs=1e-6)


FORMULAS = ["=1+2", "+1;2", "-1-2", "@sum", "\tx", "\rx", "-photo.png"]
HARMLESS = ["-1", "+1", "-0.5", "a=b", "", "'x", "cat", " =1", "7"]


def test_a_spreadsheet_finds_no_formula_in_csv_and_json_and_parquet_hold_the_data(tmp_path):
    names = [*FORMULAS, *HARMLESS]
    table = pd.DataFrame({"path": names, "label": names[::-1], "probability": 0.5, "error": ""})
    for suffix in ("csv", "json", "parquet"):
        write_table(table, str(tmp_path / f"table.{suffix}"))
    with (tmp_path / "table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["path"] for row in written] == [f"'{name}" for name in FORMULAS] + HARMLESS
    assert [row["label"] for row in written] == HARMLESS[::-1] + [f"'{name}" for name in FORMULAS[::-1]]
    assert [row["path"] for row in json.loads((tmp_path / "table.json").read_text())] == names
    assert pd.read_parquet(tmp_path / "table.parquet")["path"].tolist() == names


def test_a_table_goes_to_s3_where_its_name_says_so(model, pictures, tmp_path, monkeypatch):
    written = {}
    monkeypatch.setattr(s3, "write_object", written.__setitem__)
    table = predict_files(model, pictures)
    write_table(table, "s3://results/new/table.csv")
    write_table(table, str(tmp_path / "table.csv"))
    assert written == {"s3://results/new/table.csv": (tmp_path / "table.csv").read_bytes()}


def test_a_name_that_asks_for_no_known_form_is_refused(model, pictures, tmp_path):
    with pytest.raises(InputError, match=r"table.xlsx: the file's name must end in .csv, .json or .parquet"):
        write_table(predict_files(model, pictures), str(tmp_path / "table.xlsx"))
    assert not (tmp_path / "table.xlsx").exists()


def test_a_model_that_knows_no_classes_predicts_nothing(model, pictures):
    headless = copy.deepcopy(model)
    headless.network.replace_head(0)
    headless.classes = ()
    with pytest.raises(InputError, match="knows no classes; transfer it to a target first"):
        predict_files(headless, pictures)
