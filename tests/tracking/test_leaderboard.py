import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.judging.assessment import Assessment
from headstart.judging.contenders import Contender
from headstart.judging.leaderboard import build_leaderboard
from headstart.judging.section import Evaluation
from headstart.metrics.classification import classification_metrics
from headstart.metrics.predictions import Predictions
from headstart.tracking import mlflow_pages
from headstart.tracking.evaluation_record import prepare_views, record_assessment
from headstart.tracking.leaderboard import compare
from headstart.tracking.names import NOTE, PARENT_RUN, REUSED_FROM, STRATEGY
from headstart.tracking.runs import child_run, experiment_named, new_parent, step_run
from tests.judging.boards import candidate_of

LABELS = np.arange(60) % 3
IDS = np.array([f"{number:02d}" for number in range(60)])
CLASSES = ("cat", "dog", "<owl>")
RIGHT = {"full": 57, "zero": 30, "scratch": 45}
HISTORY = [{"epoch": epoch, "train/loss": 1 / epoch, "val/accuracy": 1 - 1 / epoch} for epoch in (1, 2, 3)]


@pytest.fixture
def evaluate(client, tmp_path):
    """One evaluated pipeline run: a parent, a run for each strategy and what record_assessment writes to them."""

    def run(pipeline_run, right=RIGHT, *, metric="accuracy", reused=None, experiment="pets", step=None):
        experiment_id = experiment_named(client, experiment, artifact_location=(tmp_path / "artifacts").as_uri())
        parent = None if step else new_parent(client, experiment_id, name=pipeline_run, pipeline_run=pipeline_run)
        candidates = []
        for strategy, count in right.items():
            baseline = strategy in ("scratch", "classical")
            tags = {STRATEGY: strategy, **({} if baseline else {"headstart.source_model": "models:/pets-source/1"})}
            trained = reused[strategy] if reused else child_run(parent, strategy, tags).id
            if not reused:
                client.log_metric(trained, "time/seconds", float(count))
                client.log_param(trained, "epochs", 3)
            predictions = np.where(np.arange(60) < count, LABELS, (LABELS + 1) % 3)
            probabilities = np.eye(3)[predictions]
            Predictions(IDS, LABELS, probabilities, CLASSES).save(tmp_path / f"{strategy}.parquet")
            candidates.append(
                candidate_of(
                    strategy,
                    "baseline" if baseline else "transfer",
                    LABELS,
                    probabilities,
                    count / 60,
                    ids=IDS,
                    source=None if baseline else "models:/pets-source/1#sha256=12",
                    seconds=float(count),
                    run_id=trained,
                )
            )
        board = build_leaderboard(candidates, Evaluation(metric=metric, resamples=200))
        metrics = {
            each.contender.strategy: classification_metrics(LABELS, each.predictions.probabilities, CLASSES)
            for each in candidates
        }
        chosen = Contender(board.chosen.strategy, "transfer", tmp_path, 0.5, 1.0, "run")
        step = step or child_run(parent, "evaluate", {})
        history = dict.fromkeys(right, HISTORY)
        found = record_assessment(step, Assessment(board, metrics, (chosen,), tmp_path, history, {}), "<p>", tmp_path)
        return parent, found.leaderboard

    return run


def test_strategies_that_kfps_plugin_hung_on_a_loop_are_each_compared_once_and_the_figures_go_to_the_top(
    client, tmp_path, monkeypatch, evaluate
):
    experiment = experiment_named(client, "pets", artifact_location=(tmp_path / "artifacts").as_uri())

    def opened(name, tags):
        return client.create_run(experiment, run_name=name, tags=tags).info.run_id

    def started(task, inside):
        monkeypatch.delenv("HEADSTART_PARENT_RUN_ID", raising=False)
        monkeypatch.setenv("MLFLOW_RUN_ID", opened(task, {PARENT_RUN: inside}))

    top = opened("pets-1", {"kfp.pipeline_run_id": "kfp-1"})
    graph = opened("exit-handler-1", {PARENT_RUN: top})
    loop = opened("for-loop-1", {PARENT_RUN: graph})
    trained = {}
    for strategy in RIGHT:
        started("finetune", loop)
        with step_run("pets", strategy, tags={STRATEGY: strategy}) as run:
            trained[strategy] = run.id
    started("evaluate", graph)
    with step_run("pets", "evaluate") as step:
        evaluate("pets-1", reused=trained, step=step)

    assert {row["strategy"]: row["run_id"] for row in compare(client, "pets").rows} == trained
    assert client.get_run(top).data.metrics["test/accuracy"] == pytest.approx(57 / 60)
    assert "test/accuracy" not in client.get_run(graph).data.metrics


def test_the_leaderboard_comes_back_best_first_with_the_documented_keys(client, evaluate):
    _, board = evaluate("run-1")
    assert compare(client, "pets").delivered == board.delivered == "full"
    rows = compare(client, "pets").rows
    assert [row["strategy"] for row in rows] == ["full", "scratch", "zero"]
    metric = ["accuracy", "accuracy_low", "accuracy_high"]
    gain = ["gain", "gain_low", "gain_high", "gain_over_best", "gain_over_best_low", "gain_over_best_high"]
    saved = ["seconds_saved", "flops_saved", "pretraining_seconds", "pays_after_targets"]
    assert list(rows[0]) == [
        "strategy",
        "source",
        *metric,
        "macro_f1",
        *gain,
        "seconds",
        "run_id",
        "same_as",
        "members",
        *saved,
    ]
    for row, expected in zip(rows, board.rows(), strict=True):
        expected = {**expected, "source": expected["source"] and "models:/pets-source/1", **dict.fromkeys(saved)}
        assert row == {
            key: pytest.approx(value) if isinstance(value, float) else value for key, value in expected.items()
        }


def test_what_predicts_the_same_as_another_says_so(client, evaluate):
    evaluate("run-1", {"full": 57, "partial": 57, "scratch": 30})
    found = compare(client, "pets", sort="same_as").rows
    assert {row["strategy"]: row["same_as"] for row in found} == {"full": None, "partial": "full", "scratch": None}
    assert found[0]["strategy"] == "partial"


def test_the_facts_beside_the_verdict_are_those_of_the_latest_run(client, evaluate):
    parent, board = evaluate("run-1")
    assert compare(client, "pets").facts == ()
    prepare_views(
        parent, replace(board, facts={"below_chance": "It guesses.", "imbalance_hidden": "One class is all."})
    )
    assert compare(client, "pets").facts == ("It guesses.", "One class is all.")


def test_what_a_strategy_saves_comes_back_with_a_whole_number_of_targets(client, evaluate):
    _, board = evaluate("run-1")
    client.log_metric(board.chosen.run_id, "saving/seconds", 1.5)
    client.log_metric(board.chosen.run_id, "saving/targets", 17)
    row = compare(client, "pets").rows[0]
    assert (row["seconds_saved"], row["flops_saved"], row["pays_after_targets"]) == (1.5, None, 17)
    assert isinstance(row["pays_after_targets"], int)


def test_baselines_have_no_gain_and_no_source(client, evaluate):
    evaluate("run-1")
    scratch = next(row for row in compare(client, "pets").rows if row["strategy"] == "scratch")
    assert [scratch[key] for key in ("source", "gain", "gain_low", "gain_high")] == [None] * 4


def test_the_metric_that_was_judged_by_gives_the_keys_and_the_order(client, evaluate):
    evaluate("run-1", metric="macro_recall")
    rows = compare(client, "pets").rows
    assert [row["strategy"] for row in rows] == ["full", "scratch", "zero"]
    assert rows[0]["macro_recall_low"] < rows[0]["macro_recall"] < rows[0]["macro_recall_high"]


def test_only_the_latest_pipeline_run_counts_unless_all_are_asked_for(client, evaluate):
    evaluate("run-1", {"full": 57, "scratch": 30})
    _, latest = evaluate("run-2", {"partial": 40, "scratch": 50})
    assert [row["strategy"] for row in compare(client, "pets").rows] == ["scratch", "partial"]
    assert {row["run_id"] for row in compare(client, "pets").rows} == {entry.run_id for entry in latest.entries}
    every = compare(client, "pets", every_run=True)
    assert [row["strategy"] for row in every.rows] == ["full", "scratch", "partial", "scratch"]
    assert [entry.pipeline_run for entry in every.entries] == ["run-1", "run-2", "run-2", "run-1"]
    assert [entry.chosen for entry in every.entries] == [True, False, True, False]


def test_the_verdict_is_the_latest_pipeline_runs(client, evaluate):
    prepare_views(*evaluate("run-1"))
    parent, board = evaluate("run-2", {"full": 20, "scratch": 50})
    prepare_views(parent, board)
    assert compare(client, "pets").sentence == board.sentence
    assert board.sentence.startswith("hurt: ")


def test_pipeline_runs_that_were_judged_by_different_metrics_are_compared_under_one(client, evaluate):
    evaluate("run-1", {"full": 57, "scratch": 30})
    evaluate("run-2", {"partial": 40, "scratch": 50}, metric="macro_recall")
    found = compare(client, "pets", every_run=True)
    assert found.metric == "macro_recall"
    assert [row["strategy"] for row in found.rows] == ["full", "scratch", "partial", "scratch"]
    assert [row["macro_recall_low"] is None for row in found.rows] == [True, False, False, True]


def test_an_evaluation_that_goes_on_does_not_hide_the_one_before(client, evaluate):
    _, done = evaluate("run-1")
    started = new_parent(client, experiment_named(client, "pets"), name="run-2", pipeline_run="run-2")
    client.log_metric(child_run(started, "full", {STRATEGY: "full"}).id, "val/accuracy", 0.5)
    assert {row["run_id"] for row in compare(client, "pets").rows} == {entry.run_id for entry in done.entries}


def test_runs_of_others_and_of_promotions_are_no_contenders(client, evaluate):
    parent, board = evaluate("run-1")
    for tags in ({"owner": "ann"}, {"headstart.role": "promotion"}, {STRATEGY: "their own"}):
        other = client.create_run(parent.experiment_id, tags=tags).info.run_id
        client.log_metric(other, "test/macro_f1", 1.0)
        client.log_metric(other, "test/accuracy", 1.0)
    expected = {entry.run_id for entry in board.entries}
    assert {row["run_id"] for row in compare(client, "pets").rows} == expected
    assert {row["run_id"] for row in compare(client, "pets", every_run=True).rows} == expected


def test_runs_that_were_deleted_do_not_count(client, evaluate):
    _, first = evaluate("run-1")
    _, second = evaluate("run-2")
    for entry in second.entries:
        client.delete_run(entry.run_id)
    assert {row["run_id"] for row in compare(client, "pets").rows} == {entry.run_id for entry in first.entries}


def test_a_figure_that_is_not_a_number_is_unknown_and_comes_last(client, evaluate):
    _, board = evaluate("run-1")
    best = board.entries[0].run_id
    client.log_metric(best, "test/accuracy", float("nan"), step=1)
    rows = compare(client, "pets").rows
    assert (rows[-1]["run_id"], rows[-1]["accuracy"]) == (best, None)


def test_a_run_that_kfps_plugin_made_is_compared_under_its_injected_parent(client, evaluate, monkeypatch):
    experiment_id = experiment_named(client, "pets")
    injected_parent = client.create_run(experiment_id, run_name="kfp run").info.run_id
    task = client.create_run(experiment_id, run_name="finetune", tags={PARENT_RUN: injected_parent}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    with step_run("pets", "full", role="target", tags={STRATEGY: "full"}) as run:
        run.log_metrics({"test/accuracy": 0.9, "test/macro_f1": 0.9})
    found = compare(client, "pets")
    assert [(row["strategy"], row["run_id"]) for row in found.rows] == [("full", task)]
    assert found.entries[0].pipeline_run == "kfp run"


def test_a_pipeline_run_that_reused_every_training_is_complete_by_itself(client, evaluate):
    _, first = evaluate("run-1")
    parent, second = evaluate("run-2", reused={entry.strategy: entry.run_id for entry in first.entries})
    runs = {entry.strategy: client.get_run(entry.run_id) for entry in second.entries}
    for entry in first.entries:
        record = runs[entry.strategy]
        assert record.data.tags[REUSED_FROM] == entry.run_id != record.info.run_id
        assert record.data.tags[PARENT_RUN] == parent.id
        assert record.info.status == "FINISHED"
        assert mlflow_pages.run_page(parent.experiment_id, entry.run_id) in record.data.tags[NOTE]
        assert record.data.params == {"epochs": "3"}
        curve = client.get_metric_history(record.info.run_id, "val/accuracy")
        assert [(point.step, point.value) for point in curve] == [
            (row["epoch"], row["val/accuracy"]) for row in HISTORY
        ]
    assert {row["run_id"] for row in compare(client, "pets").rows} == {entry.run_id for entry in second.entries}
    assert [row["seconds"] for row in compare(client, "pets").rows] == [57.0, 45.0, 30.0]


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("strategy", ["full", "scratch", "zero"]),
        ("seconds", ["zero", "scratch", "full"]),
        ("macro_f1", ["full", "scratch", "zero"]),
        ("gain_high", ["full", "zero", "scratch"]),
        ("source", [None, None, "scratch"]),
    ],
)
def test_rows_are_sorted_as_asked_with_what_is_unknown_at_the_end(client, evaluate, key, order):
    evaluate("run-1")
    rows = compare(client, "pets", sort=key).rows
    found = [row["strategy"] for row in rows]
    assert [name for name, expected in zip(found, order, strict=True) if expected] == [name for name in order if name]


def test_the_parent_gives_the_answer(client, evaluate):
    parent, board = evaluate("run-1")
    record = client.get_run(parent.id)
    assert board.explanation in record.data.tags[NOTE]
    assert record.data.tags["headstart.verdict"] == "helped"
    assert record.data.tags[STRATEGY] == "full"
    assert record.data.metrics["test/accuracy"] == pytest.approx(57 / 60)
    assert record.data.metrics["gain/accuracy"] == pytest.approx(12 / 60)
    assert "report.html" in [file.path for file in client.list_artifacts(parent.id)]
    assert Path(client.download_artifacts(parent.id, "report.html")).read_text() == "<p>"


def test_the_experiment_says_what_to_open_and_keeps_what_somebody_wrote_there(client, evaluate):
    parent, _ = evaluate("run-1")
    note = client.get_experiment(parent.experiment_id).tags[NOTE]
    filters = [
        parse_qs(urlsplit(page.removeprefix("#")).query).get("searchFilter") for page in re.findall(r"\((#\S+)\)", note)
    ]
    assert [
        [run.info.run_name for run in client.search_runs([parent.experiment_id], found[0])]
        for found in filters
        if found
    ] == [["run-1"], ["scratch", "zero", "full"]]
    client.set_experiment_tag(parent.experiment_id, NOTE, "Ours.")
    evaluate("run-2")
    assert client.get_experiment(parent.experiment_id).tags[NOTE] == "Ours."


def test_the_pictures_are_svg_files_that_stand_alone_whatever_the_names_are(client, evaluate):
    parent, board = evaluate("run-1")
    pages = [(parent.id, "leaderboard.svg")]
    pages += [(board.chosen.run_id, name) for name in ("confusion.svg", "learning_curve.svg")]
    drawn = {name: Path(client.download_artifacts(run_id, name)).read_text() for run_id, name in pages}
    for text in drawn.values():
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 (our own)
        assert "href" not in text
    assert all(strategy in drawn["leaderboard.svg"] for strategy in RIGHT)
    assert "polyline" in drawn["learning_curve.svg"]
    assert "&lt;owl&gt;" in drawn["confusion.svg"]


def test_each_run_keeps_its_figures_and_predictions(client, evaluate):
    _, board = evaluate("run-1")
    for entry in board.entries:
        record = client.get_run(entry.run_id)
        names = {"accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece"}
        assert {f"test/{name}" for name in names} <= set(record.data.metrics)
        assert ("gain/accuracy" in record.data.metrics) == (entry.kind == "transfer")
        assert record.data.tags["headstart.chosen"] == str(entry.strategy == "full").lower()
        files = {file.path for file in client.list_artifacts(entry.run_id)}
        assert files == {"confusion.svg", "learning_curve.svg", f"{entry.strategy}.parquet"}


def test_what_cannot_be_compared_is_one_clear_error(client, evaluate):
    with pytest.raises(InputError, match="no experiment 'pets'; the experiments here are: none"):
        compare(client, "pets")
    new_parent(client, experiment_named(client, "pets"), name="pets", pipeline_run="run-0")
    with pytest.raises(InputError, match="Nothing was evaluated in 'pets' yet"):
        compare(client, "pets")
    with pytest.raises(InputError, match="no experiment 'cats'; the experiments here are: pets"):
        compare(client, "cats")
    evaluate("run-1")
    with pytest.raises(
        InputError, match="nothing called 'beauty' to sort by; choose one of strategy, source, accuracy"
    ):
        compare(client, "pets", sort="beauty")
    client.delete_experiment(client.get_experiment_by_name("pets").experiment_id)
    with pytest.raises(InputError, match="experiment 'pets' was deleted; restore it in the MLflow page"):
        compare(client, "pets")
