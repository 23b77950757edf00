"""`transfer`: an experiment from Python, in the place of a recipe and a command."""

import os

import pytest

import headstart as hs


@pytest.fixture(scope="module")
def place(once):
    return once("transferred", lambda folder: None)


@pytest.fixture
def result(place, images) -> hs.Result:
    """Once trained, reused by the calls after that."""
    return hs.transfer(
        source=images / "mnist",
        target={"data": {"uri": str(images / "digits"), "size": 8, "split": {"train": 0.3, "val": 0.2, "test": 0.5}}},
        strategies=["zero", "partial"],
        labels_per_class=5,
        baselines=["classical"],
        training={"epochs": 1},
        evaluation={"curve": [], "robustness": 0, "explanations": 0, "seeds": 1},
        workspace=place / "workspace",
        quiet=True,
    )


def test_an_experiment_gives_a_verdict_a_table_a_report_and_a_model(result, images, place):
    assert result.verdict in ("helped", "no evidence", "hurt")
    assert result.sentence.startswith(result.verdict)
    assert {"zero", "partial", "classical"} <= set(result.table["strategy"])
    assert result.table["chosen"].sum() == 1
    assert result.report.is_file()
    shown = result._repr_html_()
    assert "srcdoc=" in shown
    assert "<script" not in shown

    model = result.model()
    assert model.predict(images / "digits" / "3")["label"].notna().all()
    assert result.promote(reason="a test", force=True).promoted
    champion = hs.load("models:/digits-target@champion", workspace=place / "workspace")
    assert champion.digest == model.digest
    assert hs.compare("digits", workspace=place / "workspace").sentence == result.sentence
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_wrong_section_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(hs.InputError, match="epoch"):
        hs.transfer(source="a", target="b", training={"epoch": 3})
    with pytest.raises(hs.InputError, match="finds no model"):
        hs.transfer(source=["models:/*-source"], target="nowhere", workspace=tmp_path / "workspace")
