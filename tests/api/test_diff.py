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


def test_the_settings_of_source_and_target_stand_beside_each_other(own, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["diff", "digits-source/1", "digits-target/1", "--workspace", str(own.workspace)])

    assert ended.value.code == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["made", "with", "digits-source/1", "digits-target/1"] in rows
    assert ["role", "source", "target"] in rows
    # What both have alike is left out.
    assert not [row for row in rows if row[:1] in (["classes"], ["reads"])]
