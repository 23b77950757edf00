import gc
import json
import math
import re
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.features.heads import cross_validated_hits
from headstart.features.neighbours import neighbour_hits
from headstart.features.score import SCORES, Score
from headstart.features.transferability.h_score import h_score
from headstart.features.transferability.leep import leep
from headstart.features.transferability.logme import logme
from headstart.features.transferability.nleep import nleep
from headstart.judging import confirmation, ranking
from headstart.judging import selection as module
from headstart.judging.selection import select_source
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.sources import Background, load_source, pin_source
from headstart.storage.state import State
from headstart.training.progress import Progress
from headstart.training.section import Training

# Pinned: what is measured elsewhere is not what these tests are about.
SHORT = Training(epochs=5, batch_size=8, augmentation="none", precision="fp32", layout="contiguous", compile="off")


@pytest.fixture
def random_path(source, tmp_path):
    """A bundle like the source's that has learned nothing."""
    torch.manual_seed(0)
    source.network = build_network("convnet", classes=len(source.classes), channels=1)
    source.save(tmp_path / "random")
    return tmp_path / "random"


def test_a_trained_source_is_preferred_to_random_weights_wherever_it_stands(renamed, source_path, random_path):
    trained, random = pin_source(str(source_path)), pin_source(str(random_path))
    for candidates in ([trained, random], [random, trained]):
        selection = select_source(candidates, renamed)
        assert [ranked.source for ranked in selection.ranking] == [trained, random]
        assert selection.ranking[0].probe > selection.ranking[1].probe
        assert selection.bundle.provenance["strategy"] == "pretraining"
        state = selection.bundle.network.state_dict()
        assert state["stages.0.1.num_batches_tracked"] > 0


def test_neither_validation_nor_test_samples_are_read(renamed, source_path, random_path, tmp_path):
    copy = Dataset.open(shutil.copytree(renamed.path, tmp_path / "copy"))
    for name in ("val", "test"):
        (copy.path / f"{name}.npy").write_bytes(b"not samples")
    candidates = [str(random_path), str(source_path)]
    probes = [
        [(ranked.source, ranked.probe, ranked.probe_error) for ranked in select_source(candidates, dataset).ranking]
        for dataset in (renamed, copy)
    ]
    assert probes[0] == probes[1]


def test_one_candidates_network_is_in_memory_at_a_time(renamed, source_path, tmp_path, monkeypatch):
    copies = [str(shutil.copytree(source_path, tmp_path / f"copy{number}")) for number in range(4)]
    networks: list[weakref.ref] = []
    alive: list[int] = []

    def load(*arguments, **options):
        gc.collect()
        alive.append(sum(each() is not None for each in networks))
        bundle = load_source(*arguments, **options)
        networks.append(weakref.ref(bundle.network))
        return bundle

    monkeypatch.setattr(ranking, "load_source", load)
    selection = select_source(copies, renamed, training=SHORT)

    # Each for its scores, the two best to be fine-tuned, the chosen one.
    assert alive == [0] * 7
    assert selection.chosen.source == copies[0]


def test_of_recorded_networks_of_other_libraries_too_one_is_in_memory_at_a_time(
    renamed, source_path, transformer, tmp_path, monkeypatch
):
    transformer.save(tmp_path / "first")
    copies = [str(shutil.copytree(tmp_path / "first", tmp_path / f"copy{number}")) for number in range(2)]
    candidates = [copies[0], str(source_path), copies[1]]
    weights: list[weakref.ref] = []
    alive: list[int] = []

    def load(*arguments, **options):
        # As the search leaves memory: Python has not looked for circles by itself.
        alive.append(sum(each() is not None for each in weights))
        bundle = load_source(*arguments, **options)
        weights.extend(weakref.ref(each) for each in bundle.network.parameters())
        return bundle

    monkeypatch.setattr(ranking, "load_source", load)
    gc.disable()
    try:
        select_source(candidates, renamed)
    finally:
        gc.enable()

    assert alive[:3] == [0, 0, 0]


def test_of_equals_the_earlier_is_taken(renamed, source_path, tmp_path):
    twin = shutil.copytree(source_path, tmp_path / "twin")
    for candidates in ([str(source_path), str(twin)], [str(twin), str(source_path)]):
        assert [ranked.source for ranked in select_source(candidates, renamed).ranking] == candidates


def test_where_the_labels_cannot_tell_the_smaller_network_is_taken(single, source, source_path, tmp_path):
    torch.manual_seed(0)
    source.network = build_network("convnet", classes=len(source.classes), channels=3)
    source.preprocessing = Preprocessing(size=16, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    source.save(tmp_path / "larger")
    selection = select_source([str(tmp_path / "larger"), str(source_path)], single)
    assert [ranked.source for ranked in selection.ranking] == [str(source_path), str(tmp_path / "larger")]
    assert [(ranked.probe, ranked.probe_low, ranked.knn) for ranked in selection.ranking] == [(None, None, None)] * 2
    assert selection.reason.startswith(
        f"{source_path} is smaller, of two of which a probe tells nothing, as no two classes have two training samples"
    )
    assert selection.ranking[0].parameters < selection.ranking[1].parameters
    assert selection.bundle.preprocessing.channels == 1


def test_of_one_candidate_whose_features_the_labels_cannot_judge_no_share_is_claimed(single, source_path):
    selection = select_source([str(source_path)], single)
    assert selection.reason == (
        f"{source_path} is the only candidate; a probe tells nothing, as no two classes have two training samples."
    )


def test_a_candidate_that_is_given_twice_is_ranked_once(renamed, source_path, random_path):
    candidates = [str(source_path), str(random_path), str(source_path)]
    assert [ranked.source for ranked in select_source(candidates, renamed).ranking] == candidates[:2]


def test_the_selection_is_the_same_again(renamed, source_path, random_path):
    candidates = [str(source_path), str(random_path)]
    first, again = (select_source(candidates, renamed, seed=4).ranking for _ in range(2))
    assert [ranked.probe for ranked in first] == [ranked.probe for ranked in again]


def test_the_chosen_source_comes_as_it_was(renamed, source, source_path):
    chosen = select_source([str(source_path)], renamed).bundle
    state = chosen.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in source.network.state_dict().items())
    assert (chosen.classes, chosen.provenance) == (source.classes, source.provenance)
    assert np.isclose(select_source([str(source_path)], renamed).ranking[0].parameters, 2.2e5, rtol=0.2)


def test_progress_ends_with_the_last_candidate(renamed, source_path, random_path):
    seen = []
    select_source(
        [str(source_path), str(random_path)],
        renamed,
        progress=lambda label, done, total, note="": seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_no_candidate_is_an_error(renamed):
    with pytest.raises(InputError, match="There is no source to choose from"):
        select_source([], renamed)


def test_a_candidate_that_is_missing_or_not_what_was_pinned_is_named(renamed, source_path, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path / "none")):
        select_source([str(source_path), str(tmp_path / "none")], renamed)
    with pytest.raises(InputError, match="was pinned to sha256:00"):
        select_source([f"{source_path}#sha256={'0' * 64}"], renamed)


# Scores


def test_the_ranking_says_what_each_score_says(renamed, source, source_path):
    (ranked,) = select_source([str(source_path)], renamed, seed=3).ranking
    train = renamed.split("train")
    features = source.predict_features(train.samples)
    probabilities = source.predict_probabilities(train.samples)
    hits = cross_validated_hits(features, train.labels, seed=3).right
    assert ranked.probe == hits.mean()
    assert ranked.knn == neighbour_hits(features, train.labels).mean()
    assert ranked.scores == {
        "logme": pytest.approx(logme(features, train.labels), rel=1e-4),
        "h_score": pytest.approx(h_score(features, train.labels), rel=1e-4),
        "nleep": pytest.approx(nleep(features, train.labels, seed=3), rel=1e-4),
        "leep": pytest.approx(leep(probabilities, train.labels), rel=1e-4),
    }


def test_intervals_lie_around_their_shares_and_have_a_width_at_the_ends_too(renamed, source_path, random_path):
    for ranked in select_source([str(source_path), str(random_path)], renamed).ranking:
        for share, low, high in (
            (ranked.probe, ranked.probe_low, ranked.probe_high),
            (ranked.knn, ranked.knn_low, ranked.knn_high),
        ):
            assert 0 <= low <= share <= high <= 1
            assert 0.01 < high - low < 0.6


def test_a_source_without_a_head_has_no_leep(renamed, source, tmp_path):
    source.provenance["head"] = "none"
    source.save(tmp_path / "headless")
    (ranked,) = select_source([str(tmp_path / "headless")], renamed).ranking
    assert ranked.scores["leep"] is None
    assert ranked.scores["nleep"] < 0


def test_every_score_has_its_cost_and_all_of_it_is_json(renamed, source_path, random_path):
    selection = select_source([str(source_path), str(random_path)], renamed, training=SHORT)
    table = selection.to_dict()
    assert {"logme", "h_score", "leep", "nleep"} < set(table["ranking"][0])
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    for row in table["ranking"]:
        assert set(row["costs"]) == {
            "load", "background", "features", "probe", "knn", "logme", "h_score", "leep", "nleep", "confirm"
        }  # fmt: skip
        assert all(seconds >= 0 for seconds in row["costs"].values())
        assert row["seconds"] == pytest.approx(sum(row["costs"].values()))
    assert [row["chosen"] for row in table["ranking"]].count(True) == 1
    assert table["source"] == selection.chosen.source


def test_of_many_samples_the_scores_read_some_of_every_class(renamed, source_path, monkeypatch, add_member):
    monkeypatch.setattr(ranking, "_MOST_SAMPLES", 24)
    read = []
    add_member(SCORES, "noted", Score("noted", lambda probed: read.append(probed.labels) or 0.5))
    selection = select_source([str(source_path)], renamed)
    assert selection.to_dict()["ranking"][0]["noted"] == 0.5
    whole = np.bincount(renamed.split("train").labels)
    assert len(read[0]) == 24 < whole.sum()
    assert np.abs(np.bincount(read[0]) - 24 * whole / whole.sum()).max() <= 1


# Confirmation


def test_every_sentence_has_the_standard_error_of_its_figures_and_what_ties_is_called_a_tie(
    renamed, source_path, random_path, tmp_path, monkeypatch
):
    first = select_source([str(source_path), str(random_path)], renamed)
    trained, random = first.ranking
    lead = trained.probe - random.probe
    ours, theirs = (f"{each.probe:.3f} ± {each.probe_error:.3f}" for each in (trained, random))
    words = f"{source_path} leads by the probe ({ours} against {theirs} of {random_path}), by +{lead:.3f} ± 0."
    assert first.reason.startswith(words)
    twin = str(shutil.copytree(source_path, tmp_path / "twin"))
    monkeypatch.setattr(ranking, "cross_validated_hits", with_misses_in_call(2, 1))
    second = select_source([str(source_path), twin], renamed)
    assert second.reason.startswith(f"{source_path} and {twin} tie by the probe (")
    assert "the first ahead by +0.0" in second.reason
    third = select_source([str(source_path), twin], renamed, training=SHORT)
    assert re.search(
        r"on validation \(\d\.\d{3} ± \d\.\d{3} against .*, a difference of [+-]\d\.\d{3} ± \d", third.reason
    )


def test_of_those_that_the_probe_does_not_tell_apart_the_largest_logme_goes_first(
    renamed, source_path, random_path, tmp_path, monkeypatch
):
    twin = str(shutil.copytree(source_path, tmp_path / "twin"))
    said = {str(source_path): 0.1, twin: 0.2, str(random_path): 0.3}
    monkeypatch.setattr(module, "_logme", lambda scored: said[scored.ranked.source])
    leads = select_source([str(source_path), str(random_path)], renamed)
    assert [each.source for each in leads.ranking] == [str(source_path), str(random_path)]
    assert "leads by the probe" in leads.reason
    monkeypatch.setattr(ranking, "cross_validated_hits", with_misses_in_call(2, 1))
    ties = select_source([str(source_path), twin], renamed)
    first, second = ties.ranking
    assert first.source == twin
    assert first.probe < second.probe
    assert first.chosen
    assert "and the first has the larger LogME (0.200 against 0.100)" in ties.reason


def test_where_the_two_best_overlap_the_seconds_of_a_confirmation_are_estimated(
    renamed, source_path, random_path, tmp_path
):
    assert select_source([str(source_path), str(random_path)], renamed).confirm_seconds is None
    twin = str(shutil.copytree(source_path, tmp_path / "twin"))
    assert select_source([str(source_path), twin], renamed).confirm_seconds > 0
    assert select_source([str(source_path), twin], renamed, training=SHORT).confirm_seconds is None
    assert select_source([str(source_path)], renamed).confirm_seconds is None


def test_a_probes_error_counts_the_groups_of_the_training_samples():
    both = [np.repeat(hits, 25).astype(bool) for hits in ([1, 1, 1, 0], [1, 0, 1, 0])]
    alone = ranking.probe_lead(*(ranking.Scored(None, hits) for hits in both))
    groups = np.repeat(np.arange(4), 25)
    together = ranking.probe_lead(*(ranking.Scored(None, hits, groups=groups) for hits in both))
    assert alone.value == together.value == 0.25
    assert alone.errors > 3
    assert together.errors < 1


def test_the_two_best_are_fine_tuned_for_a_quarter_of_the_epochs_and_no_others(
    renamed, source_path, random_path, tmp_path, monkeypatch
):
    epochs = []
    real = confirmation.transfer_job

    def spied(*arguments, training, **named):
        epochs.append(training.epochs)
        return real(*arguments, training=training, **named)

    monkeypatch.setattr(confirmation, "transfer_job", spied)
    twin = shutil.copytree(source_path, tmp_path / "twin")
    candidates = [str(source_path), str(random_path), str(twin)]
    selection = select_source(candidates, renamed, training=SHORT)
    assert epochs == [math.ceil(5 / 4)] * 2
    assert [ranked.confirmed is None for ranked in selection.ranking] == [False, False, True]
    assert selection.ranking[0].confirmed == selection.ranking[1].confirmed
    assert selection.chosen.source == str(source_path)
    assert "do not tell the two apart" in selection.reason


def test_an_only_candidate_is_not_fine_tuned(renamed, source_path):
    selection = select_source([str(source_path)], renamed, training=SHORT)
    assert selection.chosen.confirmed is None
    assert "is the only candidate" in selection.reason


def test_a_fine_tuning_that_is_clearly_better_overturns_the_probe(renamed, source, source_path, tmp_path, monkeypatch):
    """The probe is made to prefer a network to which all pictures are alike."""
    with torch.no_grad():
        for parameter in source.network.stages.parameters():
            parameter.zero_()
    source.save(tmp_path / "blind")
    monkeypatch.setattr(ranking, "cross_validated_hits", upside_down(ranking.cross_validated_hits))
    candidates = [str(tmp_path / "blind"), str(source_path)]
    probed = select_source(candidates, renamed)
    assert probed.chosen.source == str(tmp_path / "blind")
    confirmed = select_source(candidates, renamed, training=SHORT)
    assert [ranked.source for ranked in confirmed.ranking] == candidates
    assert confirmed.chosen.source == str(source_path)
    assert f"but short fine-tunings speak more clearly for {source_path} on validation" in confirmed.reason
    state = confirmed.bundle.network.state_dict()
    assert state["stages.0.1.num_batches_tracked"] > 0


@pytest.mark.parametrize(
    ("misses", "better", "overturned"),
    [(20, 4, False), (1, 6, True), (1, 2, False)],
    ids=["less clearly than the probe", "clearly where the probe ties", "not beyond noise where the probe ties"],
)
def test_fine_tunings_overturn_the_order_where_they_speak_clearly(
    renamed, source_path, tmp_path, monkeypatch, misses, better, overturned
):
    """The probe has so many misses more for the second, which fine-tuning makes so much better on validation."""
    twin = str(shutil.copytree(source_path, tmp_path / "twin"))
    right = renamed.split("val").labels
    wrong = right.copy()
    wrong[:better] = (wrong[:better] + 1) % 3
    real = module.confirm
    monkeypatch.setattr(
        module,
        "confirm",
        lambda each, *arguments: replace(
            real(each, *arguments), predictions=right if each.ranked.source == twin else wrong
        ),
    )
    monkeypatch.setattr(ranking, "cross_validated_hits", with_misses_in_call(2, misses))
    selection = select_source([str(source_path), twin], renamed, training=SHORT)
    assert [ranked.source for ranked in selection.ranking] == [str(source_path), twin]
    assert selection.chosen.source == (twin if overturned else str(source_path))
    assert ("speak more clearly for" if overturned else "but not as clearly") in selection.reason


def test_the_choice_never_reads_the_test_samples(renamed, source_path, random_path, tmp_path):
    copy = Dataset.open(shutil.copytree(renamed.path, tmp_path / "copy"))
    (copy.path / "test.npy").write_bytes(b"not samples")
    candidates = [str(random_path), str(source_path)]
    found = [select_source(candidates, dataset, training=SHORT).to_dict() for dataset in (renamed, copy)]
    for table in found:
        del table["seconds"]
        for row in table["ranking"]:
            del row["costs"], row["seconds"]
    assert found[0] == found[1]


def test_a_choice_that_is_interrupted_goes_on_with_the_same_result(
    renamed, source_path, random_path, tmp_path, monkeypatch
):
    candidates = [str(source_path), str(random_path)]
    undisturbed = select_source(candidates, renamed, training=SHORT)
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HEADSTART_CHECKPOINT_SECONDS", "0")
    real = confirmation.train
    with monkeypatch.context() as patch:
        killed = {"progress": killed_at_the_second_call()}
        patch.setattr(confirmation, "train", lambda job, context: real(job, replace(context, **killed)))
        with pytest.raises(Killed):
            select_source(candidates, renamed, training=SHORT)
    state = State(str(tmp_path / "state"))
    assert [name for name in state.names() if name.startswith("checkpoints/")]
    assert [name for name in state.names() if name.startswith("features/")]
    again = select_source(candidates, renamed, training=SHORT)
    assert [ranked.confirmed for ranked in again.ranking] == [ranked.confirmed for ranked in undisturbed.ranking]
    assert again.reason == undisturbed.reason


class Killed(BaseException):
    """Stands for a machine that is taken away."""


def killed_at_the_second_call() -> Progress:
    calls = []

    def progress(label: str, done: int, total: int, note: str = "") -> None:
        calls.append(done)
        if len(calls) == 2:
            raise Killed

    return progress


def upside_down(real):
    def hits(*arguments, **named):
        found = real(*arguments, **named)
        return replace(found, right=~found.right)

    return hits


# What a source has seen


def knowing(seen):
    """The background of candidates that were trained on these samples, by reference."""
    return lambda uri: Background(accuracy=0.9, learned_from=frozenset(seen[uri]) if uri in seen else None)


def test_a_source_that_was_trained_on_test_samples_is_flagged_with_their_number(renamed, source_path, random_path):
    seen = {str(source_path): [*renamed.split("test").ids[:4], *renamed.split("train").ids[:3], "elsewhere"]}
    selection = select_source([str(source_path), str(random_path)], renamed, background=knowing(seen))
    first, second = selection.ranking
    assert (first.overlap, first.leaks) == ({"train": 3, "val": 0, "test": 4}, True)
    assert (second.overlap, second.leaks) == (None, False)
    assert (first.source_accuracy, second.source_accuracy) == (0.9, 0.9)
    (warning,) = selection.warnings
    assert warning.startswith(f"{source_path} was trained on 4 of the target's test samples")
    # The other is far behind, so that it is chosen nevertheless.
    assert selection.chosen.source == str(source_path)


@pytest.mark.parametrize("training", [None, SHORT])
def test_one_that_knows_test_samples_gives_way_to_one_that_is_not_told_from_it(
    renamed, source_path, tmp_path, monkeypatch, training
):
    twin = str(shutil.copytree(source_path, tmp_path / "twin"))
    seen = {str(source_path): renamed.split("test").ids.tolist()}
    monkeypatch.setattr(ranking, "cross_validated_hits", with_misses_in_call(2, 1))
    selection = select_source([str(source_path), twin], renamed, training=training, background=knowing(seen))
    assert [ranked.source for ranked in selection.ranking] == [str(source_path), twin]
    assert selection.chosen.source == twin
    assert "knows no test samples of the target" in selection.reason


def test_a_third_that_knows_no_test_samples_is_considered_in_their_place(renamed, source_path, tmp_path, monkeypatch):
    twins = [str(shutil.copytree(source_path, tmp_path / name)) for name in ("a", "b", "c")]
    ids = renamed.split("test").ids.tolist()
    monkeypatch.setattr(ranking, "cross_validated_hits", with_misses_in_call(3, 1))
    selection = select_source(twins, renamed, background=knowing({twins[0]: ids[:1], twins[1]: ids[:1]}))
    assert [ranked.source for ranked in selection.ranking] == twins
    assert selection.chosen.source == twins[2]


def test_of_equal_probes_the_one_that_knows_fewer_of_the_targets_samples_comes_first(renamed, source_path, tmp_path):
    twins = [str(shutil.copytree(source_path, tmp_path / name)) for name in ("a", "b")]
    selection = select_source(twins, renamed, background=knowing({twins[0]: renamed.split("val").ids[:1].tolist()}))
    assert [ranked.source for ranked in selection.ranking] == twins[::-1]
    assert "was trained on fewer of the target's samples" in selection.reason


def with_misses_in_call(number, misses):
    """The probe's hits, so many fewer for the candidate of this number."""
    real, calls = ranking.cross_validated_hits, []

    def hits(*arguments, **named):
        found = real(*arguments, **named)
        calls.append(0)
        if len(calls) == number:
            found.right[np.flatnonzero(found.right)[:misses]] = False
        return found

    return hits


def test_a_source_that_saw_training_samples_is_said_to_be_flattered(renamed, source_path):
    seen = {str(source_path): renamed.split("train").ids.tolist()}
    (warning,) = select_source([str(source_path)], renamed, background=knowing(seen)).warnings
    assert "its scores here flatter it" in warning


def test_a_bundle_of_the_same_data_is_judged_by_its_digests(renamed, source, tmp_path):
    """What was trained on this very split knows no test sample; what was trained on another split of it may."""
    same = replace(source, provenance={**source.provenance, **renamed.digests})
    other = replace(source, provenance={**source.provenance, **renamed.digests, "train_digest": "sha256:1"})
    paths = [str(tmp_path / name) for name in ("same", "other")]
    for bundle, path in zip((same, other), paths, strict=True):
        bundle.save(Path(path))
    selection = select_source(paths, renamed)
    found = {ranked.source: ranked for ranked in selection.ranking}
    assert found[paths[0]].overlap == {**renamed.counts, "test": 0}
    assert not found[paths[0]].leaks
    assert found[paths[1]].overlap is None
    assert found[paths[1]].leaks
    assert any("another split of the target's data" in warning for warning in selection.warnings)
