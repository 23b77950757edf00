"""The ensemble of the strategies that tie: when it is formed, what it predicts, and that it is judged as they are."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from headstart.judging.assessment import evaluate
from headstart.judging.combination import combined
from headstart.judging.diagnostics import diagnose
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.training.trained import held_out_path

EVALUATION = Evaluation(resamples=200, curve=(), robustness=10, explanations=2)


@pytest.fixture
def strategies(contenders, dataset, tmp_path):
    """`strategies(gap)`: two transfers that tie where `gap`, of their held-out probabilities, is small."""

    def make(gap):
        found = []
        for name, lead in (("partial", gap), ("full", 0.0)):
            path = tmp_path / name
            shutil.copytree(contenders["zero" if name == "partial" else "scratch"].path, path)
            val = dataset.split("val")
            noise = np.random.default_rng(len(name)).uniform(0, 0.05, len(val.labels))
            right = (0.6 + lead + noise - noise.mean())[:, None]
            probabilities = np.where(np.eye(3)[val.labels] == 1, right, (1 - right) / 2)
            Predictions(val.ids, val.labels, probabilities, dataset.classes).save(held_out_path(path))
            found.append(replace(contenders["zero"], strategy=name, path=path))
        return found

    return make


def test_strategies_that_tie_are_averaged(strategies, contenders, dataset, tmp_path):
    members = strategies(0.0)
    (found,) = combined([*members, contenders["scratch"]], EVALUATION, tmp_path / "made")
    assert (found.strategy, found.kind, found.source) == ("ensemble", "transfer", members[0].source)
    assert sorted(found.members) == ["full", "partial"]
    bundle, test = ModelBundle.load(found.path), dataset.split("test")
    each = [ModelBundle.load(member.path).predict_probabilities(test.samples) for member in members]
    assert bundle.predict_probabilities(test.samples) == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    assert found.held_out.probabilities == pytest.approx(
        np.mean([member.held_out.probabilities[np.argsort(member.held_out.ids)] for member in members], axis=0)
    )
    assert {member["digest"] for member in bundle.provenance["members"]} == {
        bundle_digest(member.path) for member in members
    }


def test_a_strategy_that_is_better_beyond_noise_stays_alone(strategies, tmp_path):
    assert combined(strategies(0.3), EVALUATION, tmp_path / "made") == []


def test_a_recipe_can_ask_for_no_combination(strategies, dataset, tmp_path):
    alone = Evaluation.of({"combinations": []}, at="evaluation")
    members = strategies(0.0)
    assert combined(members, alone, tmp_path / "made") == []
    board = evaluate(members, dataset, tmp_path / "predictions", evaluation=alone).leaderboard
    assert len(board.ties) == 2
    assert f"{board.chosen.strategy}, which ties with {board.ties[1]} on held-out samples, reaches" in board.sentence


def test_an_ensemble_is_judged_and_explained_as_a_transfer(strategies, contenders, dataset, tmp_path):
    members = strategies(0.0)
    judged = [*members, contenders["scratch"], *combined(members, EVALUATION, tmp_path / "made")]
    assessment = evaluate(judged, dataset, tmp_path / "predictions", evaluation=EVALUATION)
    board = assessment.leaderboard
    assert board.chosen.strategy == board.delivered == "ensemble"
    assert board.chosen.gain is not None
    assert sorted(board.ties) == sorted(board.chosen.members) == ["full", "partial"]
    assert f"ensemble of {board.ties[0]} and {board.ties[1]}, which tie on held-out samples," in board.sentence
    assert board.delivery == "ensemble (2 networks for a prediction)"
    assert type(board).from_json(board.to_json()) == board
    found = diagnose(assessment, dataset, contenders["zero"].path, evaluation=EVALUATION)
    assert found.explained.method == "integrated gradients"
