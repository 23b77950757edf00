"""`monitor`: a registered model against samples that came later."""

import json
import shutil
from pathlib import Path

import pytest

import headstart as hs
from headstart.api.record import opened
from headstart.tracking.registry import find_version
from headstart.tracking.version_record import read_version
from headstart_pipelines.cli import main


def test_new_samples_of_the_same_kind_are_as_before_and_the_record_says_so(own, unlabelled):
    found = hs.monitor("digits-target", unlabelled, workspace=own.workspace)

    assert found.state == "as before"
    assert (found.samples, found.measured) == (200, None)
    (experiment,) = own.client.search_experiments(filter_string="name = 'monitoring'")
    (run,) = own.client.search_runs([experiment.experiment_id])
    assert run.data.params["state"] == "as before"
    assert run.data.metrics["monitor/auc"] == found.auc.value
    assert run.data.tags["headstart.sentence"] == found.sentence
    description = run.data.tags["mlflow.note.content"]
    assert description.startswith(found.sentence)
    assert "(#/models/" in description


def test_the_version_itself_holds_what_is_compared_so_that_its_data_set_may_be_gone(own, unlabelled):
    with opened(own.workspace) as client:
        packed = Path(read_version(client, find_version(client, "models:/digits-target")).evidence.dataset)
    from_packed = hs.monitor("digits-target", unlabelled, reference=packed, workspace=own.workspace)
    away = packed.rename(packed.with_name("away"))
    try:
        found = hs.monitor("digits-target", unlabelled, workspace=own.workspace)
    finally:
        away.rename(packed)

    assert found.state == from_packed.state == "as before"
    assert found.auc.value == pytest.approx(from_packed.auc.value, abs=0.02)
    assert [each.before for each in found.classes] == pytest.approx(
        [each.before for each in from_packed.classes], abs=1e-3
    )


def test_samples_of_another_look_have_drifted_and_the_command_can_fail_by_that(own, inverted, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "digits-target", str(inverted), "--fail", "--json", "--workspace", str(own.workspace)])

    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "drifted"
    assert found["auc"][1] > 0.9


def test_labels_of_other_samples_show_that_the_model_is_worse(own, images, tmp_path):
    # Each picture in the folder of the next digit.
    for label in range(10):
        folder = tmp_path / "labelled" / str((label + 1) % 10)
        shutil.copytree(images / "digits" / str(label), folder)

    found = hs.monitor("digits-target", tmp_path / "labelled", workspace=own.workspace)

    assert found.state == "worse"
    assert found.measured.high < found.promised.low


def test_a_class_that_the_model_does_not_know_and_data_that_are_gone_are_named(own, images, tmp_path):
    for label in ("llama", "1"):
        shutil.copytree(images / "digits" / "1", tmp_path / "odd" / label)

    with pytest.raises(hs.InputError, match="class 'llama', which the model does not know"):
        hs.monitor("digits-target", tmp_path / "odd", workspace=own.workspace)
    with pytest.raises(hs.InputError, match=r"is not at .*nowhere"):
        hs.monitor("digits-target", images / "digits", reference=tmp_path / "nowhere", workspace=own.workspace)
