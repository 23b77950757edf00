"""The ensemble of strategies and baselines: when it is formed, what it predicts, and how it is judged."""

from dataclasses import replace

import numpy as np
import pytest

from headstart.judging.assessment import evaluate
from headstart.judging.choice import ties
from headstart.judging.combination import combined, trained_again
from headstart.judging.retraining import read_retrained
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import Predictions, read_predictions
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.training.trained import held_out_path, predictions_of, read_held_out

EPOCHS = [{"epoch": 1, "val/accuracy": 0.3}]
EVALUATION = Evaluation(resamples=200, curve=(), robustness=10, explanations=2)


@pytest.fixture
def several(contenders, dataset, tmp_path):
    """`several(gap)`: two transfers and scratch, whose held-out probabilities of the right class are .6, but for the
    first one's, which are higher by `gap`."""

    def make(gap=0.0):
        found = []
        kinds = (("partial", "zero", gap), ("full", "scratch", 0.0), ("scratch", "scratch", 0.0))
        for seed, (name, original, lead) in enumerate(kinds):
            path = tmp_path / name
            bundle = ModelBundle.load(contenders[original].path)
            bundle.network.head.bias.data += seed / 100
            bundle.save(path)
            val = dataset.split("val")
            noise = np.random.default_rng(seed).uniform(0, 0.05, len(val.labels))
            right = (0.6 + lead + noise - noise.mean())[:, None]
            probabilities = np.where(np.eye(3)[val.labels] == 1, right, (1 - right) / 2)
            Predictions(val.ids, val.labels, probabilities, dataset.classes).save(held_out_path(path))
            found.append(replace(contenders["scratch" if name == "scratch" else "zero"], strategy=name, path=path))
        return found

    return make


def _forgets(contender):
    """Have a contender be sure of the first class for all held-out samples."""
    found = read_held_out(contender.path)
    replace(found, outputs=np.full_like(found.probabilities, [0.998, 0.001, 0.001])).save(held_out_path(contender.path))


def test_strategies_and_baselines_are_averaged_by_their_weights(several, dataset, tmp_path):
    partial, _, scratch = several()
    members = [partial, scratch]
    (found,) = combined(members, EVALUATION, tmp_path / "made")
    assert (found.strategy, found.kind, found.source) == ("ensemble", "transfer", partial.source)
    assert sorted(found.members) == ["partial", "scratch"]
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
    ours, theirs = bundle.provenance, ModelBundle.load(partial.path).provenance
    assert (ours["role"], ours["source_digest"]) == (theirs["role"], theirs.get("source_digest"))


def test_several_strategies_do_not_outvote_a_baseline(several, tmp_path):
    """They have the source, and err alike."""
    partial, full, scratch = several()
    (found,) = combined([partial, full, scratch], EVALUATION, tmp_path / "made")
    shares = {each["strategy"]: each["weight"] for each in ModelBundle.load(found.path).provenance["members"]}
    assert shares.keys() == {"partial", "full", "scratch"}
    assert 0.4 < shares["scratch"] < 0.6
    assert shares["partial"] + shares["full"] == pytest.approx(1 - shares["scratch"])


def test_a_prediction_costs_three_models_at_most(several, contenders, dataset, tmp_path):
    judged, val = several(), dataset.split("val")
    bundle = ModelBundle.load(contenders["scratch"].path)
    bundle.network.head.bias.data += 1
    bundle.save(tmp_path / "classical")
    right = np.random.default_rng(3).uniform(0.5, 0.6, len(val.labels))[:, None]
    probabilities = np.where(np.eye(3)[val.labels] == 1, right, (1 - right) / 2)
    Predictions(val.ids, val.labels, probabilities, dataset.classes).save(held_out_path(tmp_path / "classical"))
    judged.append(replace(contenders["scratch"], strategy="classical", path=tmp_path / "classical"))
    (found,) = combined(judged, EVALUATION, tmp_path / "made")
    assert len(found.members) == 3
    assert {"scratch", "classical"} < set(found.members)


def test_a_start_that_a_training_has_beaten_is_left_out(several, tmp_path):
    partial, full, scratch = several()
    for each, kept in ((partial, {}), (full, {"kept_epoch": 3})):
        bundle, held_out = ModelBundle.load(each.path), each.held_out
        bundle.provenance = {"decisions": {"head": "ridge"}, **kept}
        bundle.save(each.path)
        held_out.save(held_out_path(each.path))
    (found,) = combined([partial, full, scratch], EVALUATION, tmp_path / "made")
    assert sorted(found.members) == ["full", "scratch"]


def test_an_average_is_under_the_licences_of_all_its_members(several, tmp_path):
    partial, _, scratch = several()
    for member, licence in ((partial, "mit"), (scratch, "cc-by-4.0")):
        bundle, held_out = ModelBundle.load(member.path), member.held_out
        bundle.provenance["license"] = licence
        bundle.save(member.path)
        held_out.save(held_out_path(member.path))
    (found,) = combined([partial, scratch], EVALUATION, tmp_path / "made")
    assert ModelBundle.load(found.path).provenance["license"] == "cc-by-4.0 AND mit"


def test_an_average_asks_for_more_evidence_than_the_choice_of_one(several, tmp_path):
    """Held-out samples share what the trainings that predicted them have of their own."""
    partial, _, scratch = several(0.15)
    assert ties([partial, scratch]) == [partial]
    (found,) = combined([partial, scratch], EVALUATION, tmp_path / "made")
    assert found.members == ("partial", "scratch")


def test_a_baseline_that_reads_samples_in_another_way_is_left_out(several, tmp_path):
    partial, _, scratch = several()
    bundle, held_out = ModelBundle.load(scratch.path), scratch.held_out
    bundle.preprocessing = replace(bundle.preprocessing, fitted_by="pad")
    bundle.save(tmp_path / "padded")
    held_out.save(held_out_path(tmp_path / "padded"))
    padded = replace(scratch, strategy="padded", path=tmp_path / "padded")
    assert combined([partial, padded], EVALUATION, tmp_path / "made") == []
    (found,) = combined([partial, scratch, padded], EVALUATION, tmp_path / "made")
    assert sorted(found.members) == ["partial", "scratch"]


def test_a_smaller_copy_is_not_averaged_with_others(several, tmp_path):
    partial, full, _ = several()
    assert combined([partial, replace(full, strategy="int8", original="full")], EVALUATION, tmp_path / "made") == []


def test_baselines_alone_make_no_ensemble(several, tmp_path):
    partial, full, scratch = several()
    baselines = [replace(full, strategy="classical", kind="baseline", source=None), scratch]
    _forgets(partial)
    assert combined([partial, *baselines], EVALUATION, tmp_path / "made") == []


def test_a_strategy_that_is_better_beyond_noise_stays_alone(several, tmp_path):
    partial, _, scratch = several()
    _forgets(scratch)
    assert combined([partial, scratch], EVALUATION, tmp_path / "made") == []


def test_a_recipe_can_ask_for_no_combination(several, dataset, tmp_path):
    alone = Evaluation.of({"combinations": []}, at="evaluation")
    strategies = several()[:2]
    assert combined(strategies, alone, tmp_path / "made") == []
    board = evaluate(strategies, dataset, tmp_path / "predictions", evaluation=alone).leaderboard
    assert len(board.ties) == 2
    assert (
        f"{board.chosen.strategy}, which held-out samples do not tell from {board.ties[1]}, reaches" in board.sentence
    )


def test_an_ensemble_is_delivered_and_the_verdict_is_about_a_single_strategy(several, dataset, tmp_path):
    """What an average gains over one network is no gain of the transfer."""
    judged = several()
    judged += combined(judged, EVALUATION, tmp_path / "made")
    board = evaluate(judged, dataset, tmp_path / "predictions", evaluation=EVALUATION).leaderboard
    assert board.delivered == "ensemble"
    assert board.chosen.strategy == board.ties[0]
    assert sorted(board.ties) == ["full", "partial"]
    assert sorted(board.delivered_entry.members) == ["full", "partial", "scratch"]
    assert board.delivered_entry.gain is not None
    first, second, third = board.delivered_entry.members
    assert board.delivery == (
        f"ensemble of {first}, {second} and {third}, weighted by held-out samples (3 models for a prediction)"
    )
    assert type(board).from_json(board.to_json()) == board


def _trained_again(contenders, dataset, times):
    """Keep with each contender what `times` trainings with other seeds predict: the right class in its place, and
    another for one in three samples, each time for others."""
    test = dataset.split("test")
    for seed, contender in enumerate(contenders):
        for number in range(1, times + 1):
            wrong = np.arange(len(test.labels)) % 3 == (seed + number) % 3
            sure = np.eye(3)[np.where(wrong, (test.labels + 1) % 3, test.labels)] * (0.5 + 0.1 * seed) + 0.1
            probabilities = sure / sure.sum(axis=1, keepdims=True)
            found = Predictions(test.ids, test.labels, probabilities, dataset.classes)
            (contender.path / "retrained").mkdir(exist_ok=True)
            found.save(contender.path / "retrained" / f"{number}.parquet")


def test_an_average_varies_as_the_averages_of_its_members_other_trainings(several, dataset, tmp_path):
    partial, _, scratch = several()
    judged = [partial, scratch]
    for each in judged:
        bundle, held_out = ModelBundle.load(each.path), each.held_out
        bundle.provenance |= {"history": EPOCHS, "kept_epoch": 1}
        bundle.save(each.path)
        held_out.save(held_out_path(each.path))
    _trained_again(judged, dataset, 2)
    judged += combined(judged, EVALUATION, tmp_path / "made")
    board = evaluate(judged, dataset, tmp_path / "predictions", evaluation=EVALUATION).leaderboard

    weights = {each["strategy"]: each["weight"] for each in ModelBundle.load(judged[2].path).provenance["members"]}
    accuracies = [board.delivered_entry.value]
    for number in (1, 2):
        files = {each.strategy: each.path / "retrained" / f"{number}.parquet" for each in judged[:2]}
        mean = sum(weight * read_predictions(files[name]).probabilities for name, weight in weights.items())
        accuracies.append((mean.argmax(axis=1) == dataset.split("test").labels).mean())
    assert board.delivered == "ensemble"
    assert board.delivered_entry.seed_deviation == pytest.approx(np.std(accuracies, ddof=1))


def test_a_member_that_does_not_depend_on_the_seed_is_the_same_in_each_average(several, dataset, tmp_path):
    partial, full, scratch = several()
    _trained_again([scratch], dataset, 2)
    (found,) = combined([partial, full, scratch], EVALUATION, tmp_path / "made")
    bundle, test = ModelBundle.load(found.path), dataset.split("test")
    shown = {each.strategy: predictions_of(ModelBundle.load(each.path), test) for each in (partial, full, scratch)}
    again = {"scratch": list(read_retrained(scratch.path))}

    answers = trained_again(bundle, shown, again)

    weights = {each["strategy"]: each["weight"] for each in bundle.provenance["members"]}
    still = sum(weights[name] * shown[name].probabilities for name in ("partial", "full"))
    expected = [(still + weights["scratch"] * each.probabilities).argmax(axis=1) for each in again["scratch"]]
    assert [each.tolist() for each in answers] == [each.tolist() for each in expected]
    # Of one that is trained in steps, and was trained once, nobody knows the others.
    assert trained_again(bundle, shown, {**again, "full": []}) == []
