"""The ensemble of the contenders that tie: when it is formed, what it predicts, and how it is judged."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from headstart.judging.assessment import evaluate
from headstart.judging.combination import combined
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


def test_contenders_that_tie_are_averaged_by_their_weights(strategies, contenders, dataset, tmp_path):
    members = strategies(0.0)
    (found,) = combined([*members, contenders["scratch"]], EVALUATION, tmp_path / "made")
    assert (found.strategy, found.kind, found.source) == ("ensemble", "transfer", members[0].source)
    assert sorted(found.members) == ["full", "partial"]
    bundle, test = ModelBundle.load(found.path), dataset.split("test")
    each = [ModelBundle.load(member.path).predict_probabilities(test.samples) for member in members]
    listed = {member["digest"]: member["weight"] for member in bundle.provenance["members"]}
    assert listed.keys() == {bundle_digest(member.path) for member in members}
    shares = [listed[bundle_digest(member.path)] for member in members]
    assert sum(shares) == pytest.approx(1)
    assert bundle.predict_probabilities(test.samples) == pytest.approx(
        np.average(each, axis=0, weights=shares), abs=1e-6
    )
    held_out = [member.held_out.probabilities[np.argsort(member.held_out.ids)] for member in members]
    assert found.held_out.probabilities == pytest.approx(np.average(held_out, axis=0, weights=shares))


def test_an_average_is_under_the_licences_of_all_its_members(strategies, tmp_path):
    members = strategies(0.0)
    for member, licence in zip(members, ("mit", "cc-by-4.0"), strict=True):
        bundle, held_out = ModelBundle.load(member.path), member.held_out
        bundle.provenance["license"] = licence
        bundle.save(member.path)
        held_out.save(held_out_path(member.path))
    (found,) = combined(members, EVALUATION, tmp_path / "made")
    assert ModelBundle.load(found.path).provenance["license"] == "cc-by-4.0 AND mit"


def test_a_baseline_that_ties_is_averaged_with_them(strategies, dataset, tmp_path):
    *members, twin = strategies(0.0)
    scratch = replace(twin, strategy="scratch", kind="baseline", source=None)
    (found,) = combined([*members, scratch], EVALUATION, tmp_path / "made")
    assert (found.strategy, found.kind, sorted(found.members)) == ("ensemble", "transfer", ["partial", "scratch"])
    assert found.source == members[0].source
    ours, theirs = (ModelBundle.load(path).provenance for path in (found.path, members[0].path))
    assert (ours["role"], ours["source_digest"]) == (theirs["role"], theirs.get("source_digest"))


def test_a_baseline_that_reads_samples_in_another_way_is_left_out(strategies, tmp_path):
    *members, twin = strategies(0.0)
    bundle, held_out = ModelBundle.load(twin.path), twin.held_out
    bundle.preprocessing = replace(bundle.preprocessing, fitted_by="pad")
    bundle.save(tmp_path / "padded")
    held_out.save(held_out_path(tmp_path / "padded"))
    padded = replace(twin, strategy="scratch", kind="baseline", source=None, path=tmp_path / "padded")
    assert combined([*members, padded], EVALUATION, tmp_path / "made") == []
    (found,) = combined([*members, twin, padded], EVALUATION, tmp_path / "made")
    assert sorted(found.members) == ["full", "partial"]


def test_a_smaller_copy_is_not_averaged_with_others(strategies, tmp_path):
    partial, full = strategies(0.0)
    assert combined([partial, replace(full, strategy="int8", original="full")], EVALUATION, tmp_path / "made") == []


def test_baselines_alone_make_no_ensemble(strategies, contenders, tmp_path):
    baselines = [replace(each, kind="baseline", source=None) for each in strategies(0.0)]
    worse = replace(contenders["zero"], path=shutil.copytree(baselines[0].path, tmp_path / "worse"))
    found = worse.held_out
    replace(found, outputs=np.full_like(found.probabilities, 1 / 3)).save(held_out_path(worse.path))
    assert combined([*baselines, replace(worse, strategy="worse")], EVALUATION, tmp_path / "made") == []


def test_a_strategy_that_is_better_beyond_noise_stays_alone(strategies, tmp_path):
    assert combined(strategies(0.3), EVALUATION, tmp_path / "made") == []


def test_a_recipe_can_ask_for_no_combination(strategies, dataset, tmp_path):
    alone = Evaluation.of({"combinations": []}, at="evaluation")
    members = strategies(0.0)
    assert combined(members, alone, tmp_path / "made") == []
    board = evaluate(members, dataset, tmp_path / "predictions", evaluation=alone).leaderboard
    assert len(board.ties) == 2
    assert (
        f"{board.chosen.strategy}, which held-out samples do not tell from {board.ties[1]}, reaches" in board.sentence
    )


def test_an_ensemble_is_delivered_and_the_verdict_is_about_a_single_strategy(strategies, contenders, dataset, tmp_path):
    """What an average gains over one network is no gain of the transfer."""
    members = strategies(0.0)
    judged = [*members, contenders["scratch"], *combined(members, EVALUATION, tmp_path / "made")]
    board = evaluate(judged, dataset, tmp_path / "predictions", evaluation=EVALUATION).leaderboard
    assert board.delivered == "ensemble"
    assert board.chosen.strategy == board.ties[0]
    assert sorted(board.ties) == sorted(board.delivered_entry.members) == ["full", "partial"]
    assert board.delivered_entry.gain is not None
    tied = f"{board.ties[0]} and {board.ties[1]}, which held-out samples do not tell apart"
    assert board.delivery == f"ensemble of {tied} (2 models for a prediction)"
    assert type(board).from_json(board.to_json()) == board
