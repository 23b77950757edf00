"""What a training leaves: the model, and beside it the predictions for the samples that were held out."""

import numpy as np
import pytest

from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.training.trained import Trained, predictions_of, read_held_out


@pytest.fixture
def trained(untrained, threes_and_eights):
    bundle = untrained(threes_and_eights)
    return Trained(bundle, 0.5, 1.0, {}, held_out=predictions_of(bundle, threes_and_eights.split("val")))


def test_held_out_predictions_lie_beside_a_bundle_and_are_not_part_of_its_content(trained, threes_and_eights, tmp_path):
    path = trained.save(tmp_path / "model", threes_and_eights)
    assert read_held_out(path).ids.tolist() == threes_and_eights.split("val").ids.tolist()
    assert read_held_out(path).probabilities == pytest.approx(trained.held_out.probabilities)
    assert bundle_digest(path) == trained.bundle.save(tmp_path / "alone")
    assert ModelBundle.load(path).classes == threes_and_eights.classes


def test_of_a_model_that_is_not_kept_both_kinds_of_predictions_are(trained, threes_and_eights, tmp_path):
    test = np.full((len(threes_and_eights.split("test").ids), 2), 0.5, np.float32)
    table = Trained(test, 0.5, 1.0, {}, held_out=trained.held_out)
    path = table.save(tmp_path / "table", threes_and_eights)
    assert path.name == "table.parquet"
    assert read_held_out(path).probabilities == pytest.approx(trained.held_out.probabilities)


def test_where_nothing_was_held_out_nothing_is_read(trained, threes_and_eights, tmp_path):
    assert read_held_out(Trained(trained.model, 0.5, 1.0, {}).save(tmp_path / "model", threes_and_eights)) is None
