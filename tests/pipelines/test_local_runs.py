"""Runs of this machine, as `headstart runs`, `logs` and `report` show them."""

import json

import pytest


@pytest.fixture
def name(fresh) -> str:
    return fresh.log.stem


def test_runs_are_listed_with_their_verdict(cli, fresh, name):
    rows = json.loads(cli("runs", "--json", "--workspace", fresh.workspace).out)

    newest = next(row for row in rows if row["run"] == name)
    assert (newest["recipe"], newest["state"]) == ("digits", "succeeded")
    assert newest["verdict"] in ("helped", "no evidence", "hurt")
    assert name in cli("runs", "--workspace", fresh.workspace).out


def test_a_run_has_its_steps_log_and_report(cli, fresh, name):
    run = json.loads(cli("runs", name, "--json", "--workspace", fresh.workspace).out)

    assert {"prepare-target", "pretrain", "full", "evaluate"} <= {step["step"] for step in run["steps"]}
    assert all(step["state"] == "succeeded" for step in run["steps"])
    assert run["log"] == str(fresh.log)
    assert run["report"] == str(fresh.workspace / "reports" / f"{name}.html")


def test_runs_of_this_machine_are_meant_where_a_workspace_is_the_nearest(cli, fresh, name, monkeypatch):
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(fresh.workspace))

    assert name in cli("runs").out
    assert cli("compare", "digits").code == 0


def test_a_log_is_printed_whole_by_the_runs_name_or_its_recipes(cli, fresh, name):
    whole = fresh.log.read_text()

    assert cli("logs", name, "--workspace", fresh.workspace).out.splitlines()[0] == whole.splitlines()[0]
    assert cli("logs", "digits", "--workspace", fresh.workspace).code == 0


def test_a_report_is_found_by_the_runs_name_its_recipes_or_as_the_latest(cli, fresh, name):
    path = f"{fresh.workspace / 'reports' / name}.html\n"

    assert cli("report", name, "--workspace", fresh.workspace).out == path
    assert cli("report", "digits", "--workspace", fresh.workspace).out.endswith(".html\n")


def test_a_report_is_opened_in_the_browser(cli, fresh, name, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)

    assert cli("report", name, "--open", "--workspace", fresh.workspace).code == 0
    assert opened == [(fresh.workspace / "reports" / f"{name}.html").as_uri()]


@pytest.mark.parametrize("arguments", [["runs", "nothing"], ["logs", "nothing"], ["report", "nothing"],
                                       ["runs", "--experiment", "nothing"], ["runs", "x", "--wait"]])  # fmt: skip
def test_what_is_not_there_is_named(cli, fresh, arguments):
    answer = cli(*arguments, "--workspace", fresh.workspace)

    assert answer.code == 2
    assert "nothing" in answer.err or "--wait" in answer.err


def test_a_run_says_at_once_what_it_is_called_and_where_it_is_recorded(fresh, name):
    head = fresh.out.partition("✓")[0]

    assert f"run          {name}" in head
    assert f"{name}.log" in head
    assert "MLflow page" in head
