"""`evaluate`: a model on labelled samples of one's own."""

import json
import shutil

import pytest

import headstart as hs
from headstart_pipelines.cli import main


def test_samples_that_the_model_was_trained_on_are_left_out_and_those_of_its_test_are_counted(own, images):
    found = hs.evaluate("models:/digits-target/1", images / "digits", workspace=own.workspace)

    # 2 labels of each of 10 classes; about half of the 600 pictures are the test's.
    assert (len(found.table), found.trained_on, found.tested_on, found.refused) == (580, 20, 280, 0)
    assert "on 580 samples; 20 more that it was trained on are left out; on 280 of them it was tested" in found.sentence
    right = (found.table["label"] == found.table["predicted"]).mean()
    assert found.figures["accuracy"].value == pytest.approx(right)
    assert found.value.low < right < found.value.high
    assert [each.name for each in found.classes] == [str(digit) for digit in range(10)]
    assert sum(count for *_, count in found.mistakes) == (found.table["label"] != found.table["predicted"]).sum()


def test_the_command_fails_where_the_metric_is_not_surely_as_good_as_asked(own, images, tmp_path, capsys):
    # Each picture in the folder of the next digit.
    for label in range(10):
        shutil.copytree(images / "digits" / str(label), tmp_path / "labelled" / str((label + 1) % 10))
    command = ["evaluate", "models:/digits-target/1", str(tmp_path / "labelled"), "--workspace", str(own.workspace)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--at-least", "0.5", "--json", "-o", str(tmp_path / "found.csv")])

    assert ended.value.code == 1
    answer = capsys.readouterr()
    assert "], which begins below 0.5 (--at-least)." in answer.err
    found = json.loads(answer.out)
    assert found["figures"]["accuracy"][2] < 0.5
    assert found["mistakes"][0]["count"] >= found["mistakes"][-1]["count"]
    assert (tmp_path / "found.csv").read_text().startswith("path,label,predicted,probability\n")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--at-least", "0"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "mistakes     takes " in shown
    assert "balanced accuracy" in shown


@pytest.mark.parametrize(
    ("metric", "bound", "said"),
    [("mae", "--at-least", "mae is an error; say --at-most"), ("accuracy", "--at-most", "say --at-least")],
)
def test_a_bound_that_means_nothing_for_the_metric_is_refused_before_anything_is_loaded(
    metric, bound, said, tmp_path, capsys
):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(tmp_path / "none"), str(tmp_path), "--metric", metric, bound, "3"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_bundle_of_which_nothing_is_known_is_measured_and_that_is_said(own, images, tmp_path):
    place = tmp_path / "bundle"
    hs.load("models:/digits-target/1", workspace=own.workspace).bundle.save(place)

    found = hs.evaluate(place, images / "digits")

    assert found.trained_on is None
    assert "whether it was trained on some of them is not known" in found.sentence


def test_what_cannot_be_measured_is_refused_with_the_reason(own, images, tmp_path):
    model = "models:/digits-target/1"
    with pytest.raises(hs.InputError, match="There is no metric auc; choose one of accuracy"):
        hs.evaluate(model, images / "digits", metric="auc", workspace=own.workspace)
    unlabelled = shutil.copytree(images / "digits" / "1", tmp_path / "unlabelled")
    with pytest.raises(hs.InputError, match="no class folders"):
        hs.evaluate(model, unlabelled, workspace=own.workspace)
    for label in ("llama", "1"):
        shutil.copytree(images / "digits" / "1", tmp_path / "odd" / label)
    with pytest.raises(hs.InputError, match="class 'llama', which the model does not know"):
        hs.evaluate(model, tmp_path / "odd", workspace=own.workspace)
