import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.errors import HeadstartError
from headstart.judging.leaderboard import build_leaderboard
from headstart.judging.section import Evaluation
from headstart.metrics.intervals import Interval
from headstart.tracking import mlflow_pages
from headstart.tracking.evaluation_record import prepare_views
from headstart.tracking.names import NOTE
from headstart.tracking.reused import note_reused_steps
from tests.judging.boards import candidate_of

LABELS = np.arange(60) % 3
RIGHT = {"full": 57, "zero": 30, "scratch": 45}


@pytest.fixture
def parent(new_run):
    return new_run("pets")


@pytest.fixture
def board():
    def candidate(strategy, right):
        predicted = np.where(np.arange(60) < right, LABELS, (LABELS + 1) % 3)
        return candidate_of(
            strategy,
            "baseline" if strategy == "scratch" else "transfer",
            LABELS,
            np.eye(3)[predicted],
            right / 60,
            source=None if strategy == "scratch" else "models:/pets-source/1#sha256=12",
            seconds=1.23456789,
            run_id=f"run-of-{strategy}",
        )

    return build_leaderboard([candidate(*each) for each in RIGHT.items()], Evaluation(resamples=200))


def read_table(client, parent):
    return json.loads(Path(client.download_artifacts(parent.id, "leaderboard.json")).read_text())


def test_the_description_gives_the_answer_and_leads_to_the_views(client, parent, board):
    prepare_views(parent, board)
    text = client.get_run(parent.id).data.tags[NOTE]
    assert text.startswith("**helped**: full gains +0.200 accuracy over scratch")
    runs = ["run-of-full", "run-of-scratch", "run-of-zero"]
    assert re.findall(r"\]\((\S+)\)", text) == [
        mlflow_pages.charts_page(parent.experiment_id, parent.id, "accuracy"),
        mlflow_pages.compare_page(parent.experiment_id, runs),
        mlflow_pages.curves_page(parent.experiment_id, runs, "val/accuracy"),
    ]


def test_facts_stand_between_the_answer_and_the_views(client, parent, board):
    prepare_views(
        parent, replace(board, facts={"below_chance": "It guesses.", "imbalance_hidden": "One class is all."})
    )
    paragraphs = client.get_run(parent.id).data.tags[NOTE].split("\n\n")
    assert paragraphs[1] == "- It guesses.\n- One class is all."
    assert [each[:10] for each in paragraphs[::2]] == ["**helped**", "Delivered:"]


def test_the_links_hold_whatever_address_the_server_has(client, parent, board):
    prepare_views(parent, board)
    pages = re.findall(r"\]\((\S+)\)", client.get_run(parent.id).data.tags[NOTE])
    assert all(page.startswith("#/") for page in pages)


def test_the_leaderboard_is_a_table_with_the_keys_of_compare(client, parent, board):
    prepare_views(parent, board)
    table = read_table(client, parent)
    assert table["columns"] == list(board.rows()[0])
    assert [row[0] for row in table["data"]] == ["full", "scratch", "zero"]
    assert table["data"][0][table["columns"].index("accuracy")] == 0.95
    assert table["data"][1][table["columns"].index("gain")] is None
    # By this tag, MLflow's page knows that the file is a table.
    listed = json.loads(client.get_run(parent.id).data.tags["mlflow.loggedArtifacts"])
    assert listed == [{"path": "leaderboard.json", "type": "table"}]


def test_the_intervals_of_every_metric_are_a_table_beside_it(client, parent, board):
    prepare_views(parent, board, {"accuracy": Interval(0.95, 0.91, 0.981234), "ece": Interval(0.1, 0.05, 0.2)})
    table = json.loads(Path(client.download_artifacts(parent.id, "intervals.json")).read_text())
    assert table["columns"] == ["metric", "value", "low", "high"]
    assert table["data"] == [["accuracy", 0.95, 0.91, 0.9812], ["ece", 0.1, 0.05, 0.2]]
    listed = json.loads(client.get_run(parent.id).data.tags["mlflow.loggedArtifacts"])
    assert [each["path"] for each in listed] == ["leaderboard.json", "intervals.json"]


def test_an_evaluation_that_is_repeated_leaves_one_table(client, parent, board):
    prepare_views(parent, board)
    prepare_views(parent, board)
    assert len(read_table(client, parent)["data"]) == 3


def test_the_description_says_what_is_delivered_and_which_strategies_tie(client, parent, board):
    tied = replace(board, ties=("full", "zero"), delivered="scratch", recommended="classical")
    prepare_views(parent, tied)
    text = client.get_run(parent.id).data.tags[NOTE]
    lower = "has a lower log loss on held-out samples than"
    assert "full, which held-out samples do not tell from zero, gains" in text
    assert f"Delivered: scratch, a baseline: it {lower} full; classical {lower} scratch and is the better model" in text


def test_the_description_leads_to_the_runs_that_did_the_work_of_reused_steps(client, parent, board):
    prepare_views(parent, board)
    note_reused_steps(parent, {"prepare target": ["a" * 32], "fit baselines": ["b" * 32, "c" * 32]})
    tags = client.get_run(parent.id).data.tags
    assert tags["headstart.reused_steps"] == "prepare target, fit baselines"
    *before, last = tags[NOTE].split("\n\n")
    assert before[0].startswith("**helped**")
    pages = [mlflow_pages.run_page(parent.experiment_id, letter * 32) for letter in "abc"]
    assert re.findall(r"\]\((\S+)\)", last) == pages


def test_what_mlflow_refuses_about_reused_steps_is_told_as_a_sentence(client, parent):
    with pytest.raises(HeadstartError, match="not found"):
        note_reused_steps(replace(parent, id="0" * 32), {"prepare target": []})
