"""What a run left behind, asked from Python: the same that the command line says."""

import json
import os
from html import unescape
from pathlib import Path

import pytest

import headstart as hs
from headstart.workspace import find_workspace
from headstart_pipelines.cli import main


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> object:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_champion_is_promoted_loaded_asked_and_traced(own, images, capsys):
    outcome = hs.promote("digits-target", reason="a test", workspace=own.workspace)
    assert outcome.promoted
    assert [change.version for change in hs.history("digits-target", workspace=own.workspace)] == ["1"]

    model = hs.load("models:/digits-target@champion", workspace=own.workspace)
    table = model.predict(images / "digits" / "7")
    assert len(table) == 60
    assert set(table["label"]) <= set(model.classes)

    family = hs.lineage("digits-target", workspace=own.workspace)
    assert family == said(capsys, "lineage", "digits-target", "--workspace", own.workspace)
    assert family["source"]["model"] == "digits-source"
    assert family["digest"] == model.digest


def test_the_leaderboard_is_a_table_with_the_verdict_beside_it(own, capsys):
    found = hs.compare("digits", workspace=own.workspace)

    rows = said(capsys, "compare", "digits", "--workspace", own.workspace)
    assert found.table["strategy"].tolist() == [row["strategy"] for row in rows]
    assert found.table["chosen"].sum() == 1
    assert found.sentence in unescape(found._repr_html_())


def test_a_gate_that_refuses_is_a_result_and_changes_nothing(own):
    outcome = hs.promote("digits-target", policy={"min_metrics": {"accuracy": 1.0}}, workspace=own.workspace)

    assert not outcome.promoted
    assert [gate.name for gate in outcome.refusals] == ["min_metrics.accuracy"]
    assert hs.history("digits-target", workspace=own.workspace) == []


def test_calls_leave_the_environment_as_it_was_so_that_each_may_name_its_workspace(own, tmp_path):
    hs.compare("digits", workspace=own.workspace)
    assert "MLFLOW_TRACKING_URI" not in os.environ

    with pytest.raises(hs.InputError, match="There is no record in the workspace"):
        hs.compare("digits", workspace=tmp_path / "other")


def test_a_data_set_is_prepared_and_sources_are_ranked_for_it(own, images, tmp_path):
    packed = hs.prepare(images / "digits", tmp_path / "packed", size=8, labels_per_class=5)
    assert packed.counts["train"] + packed.counts["val"] == 50
    assert (tmp_path / "packed" / "report.html").is_file()

    ranking = hs.rank(images / "digits", ["models:/*-source"], size=8, labels_per_class=5, workspace=own.workspace)
    assert ranking.chosen.startswith("models:/digits-source/1#sha256=")
    assert ranking.table["source"].tolist() == [ranking.chosen]
    assert "only candidate" in ranking.reason
    assert "only candidate" in ranking._repr_html_()


def test_the_workspace_is_the_one_named_else_the_nearest_upward_else_one_here(tmp_path, monkeypatch):
    inner = tmp_path / "project" / "notebooks"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert find_workspace() == Path(".headstart")

    (tmp_path / "project" / ".headstart").mkdir()
    assert find_workspace() == tmp_path / "project" / ".headstart"
    monkeypatch.chdir(tmp_path / "project")
    assert find_workspace() == Path(".headstart")

    monkeypatch.setenv("HEADSTART_WORKSPACE", str(tmp_path / "elsewhere"))
    assert find_workspace() == tmp_path / "elsewhere"
