import numpy as np
import pandas as pd
import pytest

from headstart.errors import HeadstartError, InputError
from headstart.metrics.predictions import Predictions, read_predictions

IDS = np.array(["aa", "bb", "cc"])
LABELS = np.array([2, 0, 2])
PROBABILITIES = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4]], dtype=np.float32)
CLASSES = ["<cat>", "dog, wet", "été"]


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    Predictions(IDS, LABELS, PROBABILITIES, CLASSES).save(tmp_path / "predictions.parquet")
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back.classes == tuple(CLASSES)
    assert back.ids.tolist() == IDS.tolist()
    assert back.labels.tolist() == LABELS.tolist()
    assert back.probabilities.dtype == np.float32
    assert np.array_equal(back.probabilities, PROBABILITIES)


def test_any_parquet_reader_sees_class_names(tmp_path):
    Predictions(IDS, LABELS, PROBABILITIES, CLASSES).save(tmp_path / "predictions.parquet")
    frame = pd.read_parquet(tmp_path / "predictions.parquet")
    assert frame["label"].tolist() == ["été", "<cat>", "été"]
    assert frame["predicted"].tolist() == ["été", "<cat>", "<cat>"]
    assert frame["probabilities"][1].tolist() == PROBABILITIES[1].tolist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": IDS[:2]}, "2 ids and 3 labels"),
        ({"labels": LABELS[:2]}, "do not belong together"),
        ({"labels": np.array([0, 1, 3])}, "not one of the 3 classes"),
        ({"classes": CLASSES[:2]}, "3 classes but"),
        ({"classes": ["a", "b", "a"]}, "class name occurs twice"),
    ],
)
def test_predictions_that_do_not_fit_together_are_not_written(tmp_path, change, reason):
    arguments = {"ids": IDS, "labels": LABELS, "outputs": PROBABILITIES, "classes": CLASSES} | change
    with pytest.raises(HeadstartError, match=reason):
        Predictions(**arguments).save(tmp_path / "predictions.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_foreign_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"no predictions at .*absent\.parquet"):
        read_predictions(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    for name in ("text.parquet", "other.parquet"):
        with pytest.raises(InputError, match=name):
            read_predictions(tmp_path / name)


def test_without_classes_the_items_alone_are_kept(tmp_path):
    path = tmp_path / "predictions.parquet"
    Predictions(IDS, np.full(3, -1), np.empty((3, 0), dtype=np.float32), ()).save(path)
    back = read_predictions(path)
    assert back.ids.tolist() == IDS.tolist()
    assert (back.classes, back.labels.tolist(), back.probabilities.shape) == ((), [-1, -1, -1], (3, 0))
    assert list(pd.read_parquet(path)) == ["id"]


def test_the_items_groups_are_kept_and_files_without_them_are_read(tmp_path):
    groups = np.array(["anna", "", "anna"])
    path = tmp_path / "predictions.parquet"
    Predictions(IDS, LABELS, PROBABILITIES, CLASSES, groups).save(path)
    assert read_predictions(path).groups.tolist() == groups.tolist()
    assert pd.read_parquet(path)["group"].dropna().tolist() == ["anna", "anna"]
    # As older versions wrote all files, and this one writes those without groups.
    Predictions(IDS, LABELS, PROBABILITIES, CLASSES).save(path)
    assert read_predictions(path).groups is None
    assert "group" not in pd.read_parquet(path)
