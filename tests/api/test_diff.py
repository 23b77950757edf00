"""`diff`: two versions of a registered model."""

import json

import pytest

from headstart_pipelines.cli import main


def test_a_version_is_what_it_is(own, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["diff", "digits-target/1", "models:/digits-target", "--json", "--workspace", str(own.workspace)])

    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["settings"], found["gain"], found["fixed"], found["broken"]) == ([], [0.0, 0.0, 0.0], 0, 0)
    assert "digits-target/1 is not told from digits-target/1: +0.000" in found["sentence"]


def test_settings_show_source_and_target_apart_and_say_why_there_is_no_comparison(own, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["diff", "digits-source/1", "digits-target/1", "--workspace", str(own.workspace)])

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "role" in shown
    assert "source" in shown
    assert "target" in shown
