"""Each component turns artifacts and parameters into artifacts, and is testable without a pipeline."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kfp.dsl import PipelineTaskFinalStatus
from rich.console import Console

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.judging.contenders import read_baselines
from headstart.judging.evidence import EVIDENCE, Evidence
from headstart.judging.leaderboard import Leaderboard
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.reference import by_content, pinned
from headstart.tracking.candidates import Pretrained
from headstart.tracking.client import connect
from headstart.tracking.leaderboard import compare
from headstart.tracking.runs import PARENT_VARIABLE, child_run, end, new_parent
from headstart.tracking.version_record import read_version
from headstart.training.trained import held_out_path, read_held_out
from headstart_components.close_record.component import close_record
from headstart_components.evaluate.component import evaluate
from headstart_components.finetune.component import finetune
from headstart_components.prepare_data.component import prepare_data
from headstart_components.pretrain.component import pretrain
from headstart_components.register.component import register
from headstart_components.select_source.component import select_source
from headstart_pipelines.display import verdict

# Those that put out artifacts.
STEPS = ["prepare source", "prepare target", "pretrain", "select", "zero", "partial", "baselines", "evaluate"]


@pytest.mark.parametrize("step", STEPS)
def test_every_output_has_content_at_its_path(floor, step):
    """kfp's local cache takes an output without a file for a missing one, and would never reuse the step."""
    for name, artifact in floor.outputs[step].items():
        assert Path(artifact.path).exists(), name


@pytest.mark.parametrize("step", STEPS)
def test_every_outputs_metadata_is_json(floor, step):
    for name, artifact in floor.outputs[step].items():
        assert json.loads(json.dumps(artifact.metadata)) == artifact.metadata, name


@pytest.mark.parametrize("step", ["prepare source", "prepare target"])
def test_prepare_data_puts_out_a_packed_data_set_and_says_which(floor, step):
    artifact = floor.outputs[step]["dataset"]
    packed = Dataset.open(Path(artifact.path))

    assert artifact.metadata["digest"] == packed.digest
    assert {name: artifact.metadata[name] for name in packed.counts} == packed.counts
    assert artifact.metadata["classes"] == 2


@pytest.mark.parametrize("step", ["prepare source", "prepare target"])
def test_prepare_data_shows_the_data_sets_report(floor, step):
    report, packed = Path(floor.outputs[step]["report"].path), Path(floor.outputs[step]["dataset"].path)

    assert report.read_bytes() == (packed / "report.html").read_bytes()


@pytest.mark.parametrize(("step", "output"), [("pretrain", "model"), ("select", "source"), ("zero", "model")])
def test_a_model_is_a_bundle_whose_digest_is_in_its_metadata(floor, step, output):
    artifact = floor.outputs[step][output]

    assert ModelBundle.load(Path(artifact.path)).classes == ("across", "down")
    assert artifact.metadata["digest"] == bundle_digest(Path(artifact.path))


@pytest.mark.parametrize(("step", "output"), [("pretrain", "model"), ("zero", "model"), ("evaluate", "winner")])
def test_an_artifact_leads_to_its_mlflow_run(floor, step, output):
    run_id = floor.outputs[step][output].metadata["run_id"]

    assert connect().get_run(run_id).info.status == "FINISHED"


def test_each_run_names_the_data_that_it_used_and_for_what(floor):
    client = connect()
    used = {}
    for step, output in (("pretrain", "model"), ("partial", "model"), ("evaluate", "leaderboard")):
        run = client.get_run(floor.outputs[step][output].metadata["run_id"])
        used[step] = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    assert {step: set(found) for step, found in used.items()} == {
        "pretrain": {"training", "validation", "evaluation"},
        "partial": {"training", "validation", "evaluation"},
        "evaluate": {"evaluation"},
    }
    test = used["evaluate"]["evaluation"]
    packed = Dataset.open(Path(floor.outputs["prepare target"]["dataset"].path))
    assert packed.split_digest("test").startswith(f"sha256:{test.digest}")
    assert (test.name, test.source_type) == ("data", "local")
    assert json.loads(test.source)["uri"] == packed.manifest["source"]["uri"]
    assert json.loads(test.profile)["samples"] == packed.counts["test"]


def test_register_returns_the_version_pinned_to_the_models_content(floor):
    digest = bundle_digest(Path(floor.outputs["pretrain"]["model"].path))

    assert floor.returned["register source"] == pinned("models:/stripes-source/1", digest)


def test_registering_a_model_again_returns_the_same_version(floor):
    floor.call(
        register,
        "again",
        role="source",
        modality="image",
        seed=0,
        source_data={"uri": "elsewhere"},
        source_pretraining={},
        model=floor.outputs["pretrain"]["model"],
    )

    assert floor.returned["again"] == floor.returned["register source"]


def test_select_source_hands_on_the_very_model_that_was_pretrained_before_it_is_registered(floor):
    chosen = floor.outputs["select"]["source"].metadata
    digest = floor.outputs["pretrain"]["model"].metadata["digest"]

    assert chosen["digest"] == digest
    assert chosen["source"] == by_content("stripes-source", digest)
    assert [ranked["source"] for ranked in selection(floor)["ranking"]] == [chosen["source"]]


def test_a_pretraining_that_goes_on_from_a_registered_source_has_learned_what_that_has(floor):
    place = Path(continued(floor, "models:/stripes-source/1"))
    first = floor.outputs["pretrain"]["model"]
    run = connect().get_run(floor.outputs["continued"]["model"].metadata["run_id"])

    provenance, background = ModelBundle.load(place).provenance, Pretrained("stripes-source", place).background
    assert provenance["source"].startswith("models:/stripes-source/1#sha256=")
    assert provenance["source_digest"] == first.metadata["digest"]
    assert run.data.params["start"] == "models:/stripes-source/1"
    assert background.complete
    assert background.learned_from >= Pretrained("stripes-source", Path(first.path)).background.learned_from


def test_what_a_start_from_elsewhere_has_learned_is_not_known(floor):
    place = Path(continued(floor, floor.outputs["pretrain"]["model"].path, "from a path"))

    background = Pretrained("stripes-source", place).background
    assert background.learned_from
    assert not background.complete


def continued(floor, start, call="continued"):
    """The bundle of a source whose training goes on from `start`."""
    if call not in floor.outputs:
        dataset = floor.outputs["prepare source"]["dataset"]
        floor.call(pretrain, call, pretraining={"start": start, "epochs": 1}, seed=0, dataset=dataset)
    return floor.outputs[call]["model"].path


def test_select_source_keeps_the_ranking_and_the_reason_in_output_and_record(floor):
    told = selection(floor)
    run = connect().get_run(floor.outputs["select"]["source"].metadata["run_id"])
    kept = json.loads(Path(artifact_of(run, "ranking.json")).read_text())

    assert "is the only candidate" in told["reason"]
    (ranked,) = told["ranking"]
    assert ranked["chosen"]
    assert ranked["source_accuracy"] == floor.outputs["pretrain"]["model"].metadata["test/accuracy"]
    assert kept == told
    assert run.data.metrics["probe/accuracy"] == ranked["probe"]
    assert run.data.metrics["time/seconds"] == pytest.approx(told["seconds"])


def selection(floor, step="select"):
    """The ranking that select_source put out, with what it says of it."""
    return json.loads((Path(floor.outputs[step]["source"].path) / "ranking.json").read_text())


def test_select_source_counts_what_the_source_was_trained_on(floor):
    """The stripes' source learned the same pictures in the same split, so it knows all but the test samples."""
    (ranked,) = selection(floor)["ranking"]
    counts = Dataset.open(Path(floor.outputs["prepare target"]["dataset"].path)).counts

    assert ranked["overlap"] == {**counts, "test": 0}
    assert not ranked["leaks"]


def test_select_source_expands_a_search_and_fine_tunes_the_two_best_of_what_it_finds(floor, tmp_path):
    bundle = ModelBundle.load(Path(floor.outputs["pretrain"]["model"].path))
    bundle.provenance["name"] = "another"
    bundle.save(tmp_path / "another")
    floor.call(
        select_source,
        "select by search",
        candidates=["models:/*-source", str(tmp_path / "another")],
        pretrained=floor.outputs["pretrain"]["model"],
        seed=0,
        dataset=floor.outputs["prepare target"]["dataset"],
        training={"epochs": 1.0},
        evaluation={"metric": "macro_f1"},
    )

    told = selection(floor, "select by search")
    sources = [ranked["source"] for ranked in told["ranking"]]
    assert sorted(sources) == sorted(set(sources))
    assert floor.returned["register source"] in sources, "the version that a search found, not its content once more"
    assert not any("/sha256:" in source for source in sources)
    assert sum(ranked["confirmed"] is not None for ranked in told["ranking"]) == 2
    assert "short fine-tuning" in told["reason"]


def artifact_of(run, name):
    """The local path of a run's artifact."""
    from mlflow.artifacts import download_artifacts

    return download_artifacts(artifact_uri=f"{run.info.artifact_uri}/{name}")


def test_what_is_trained_in_steps_is_trained_with_another_seed_too(floor):
    board = json.loads(Path(floor.outputs["evaluate"]["leaderboard"].path).read_text())
    varies = {each["strategy"] for each in board["entries"] if each["seed_deviation"] is not None}
    # Zero transfer and scikit-learn have no steps.
    assert varies == {"partial", "scratch"}
    folders = [
        Path(floor.outputs["partial"]["model"].path),
        Path(floor.outputs["baselines"]["fitted"].path) / "scratch",
    ]
    assert all([file.name for file in (place / "retrained").iterdir()] == ["1.parquet"] for place in folders)


def test_fit_baselines_lists_what_it_fitted(floor):
    fitted = read_baselines(Path(floor.outputs["baselines"]["fitted"].path))

    assert [(one.strategy, one.kind) for one in fitted] == [("scratch", "baseline"), ("classical", "baseline")]
    assert all(one.path.exists() for one in fitted)


def test_evaluate_judges_every_model_that_it_is_given(floor):
    board = Leaderboard.from_json(Path(floor.outputs["evaluate"]["leaderboard"].path).read_text())

    assert sorted(entry.strategy for entry in board.entries) == ["classical", "partial", "scratch", "zero"]


def test_evaluate_names_the_sources_registered_version_wherever_its_content_stood_for_it(floor):
    board = Leaderboard.from_json(Path(floor.outputs["evaluate"]["leaderboard"].path).read_text())
    page = Path(floor.outputs["evaluate"]["report"].path).read_text()
    runs = [floor.outputs[step]["model"].metadata["run_id"] for step in ("zero", "partial")]
    tags = [connect().get_run(run).data.tags for run in [*runs, floor.outputs["select"]["source"].metadata["run_id"]]]

    assert {entry.source for entry in board.entries} == {None, floor.returned["register source"]}
    assert [each["headstart.source_model"] for each in tags] == ["models:/stripes-source/1"] * 3
    assert tags[-1]["mlflow.note.content"].startswith("models:/stripes-source/1 is the only candidate")
    assert "models:/stripes-source/1 is the only candidate" in page
    assert "stripes-source/sha256" not in page


def test_a_registered_target_names_its_sources_version_and_the_version_its_descendant(floor):
    source, target = (connect().get_model_version(f"stripes-{role}", "1") for role in ("source", "target"))

    assert target.tags["headstart.source_model"] == "models:/stripes-source/1"
    assert "models:/stripes-source/1" in target.description.replace("`", "")
    assert source.tags["headstart.descendant/stripes-target/1"] == target.tags["headstart.model_digest"]


def test_evaluate_puts_out_the_chosen_strategys_own_bundle(floor):
    winner = floor.outputs["evaluate"]["winner"]
    chosen = floor.outputs[winner.metadata["strategy"]]["model"]

    assert bundle_digest(Path(winner.path)) == chosen.metadata["digest"]
    assert winner.metadata["run_id"] == chosen.metadata["run_id"]


def test_the_metrics_that_kubeflow_shows_are_the_winners(floor):
    shown = floor.outputs["evaluate"]["metrics"].metadata
    board = Leaderboard.from_json(Path(floor.outputs["evaluate"]["leaderboard"].path).read_text())

    assert shown["accuracy"] == board.chosen.value
    assert shown["gain"] == board.chosen.gain


def test_the_verdict_is_the_same_word_wherever_it_is_told(floor):
    made = floor.outputs["evaluate"]
    board = Leaderboard.from_json(Path(made["leaderboard"].path).read_text())
    client = connect()
    version = client.get_model_version("stripes-target", "1")
    parent = client.get_run(client.get_run(made["report"].metadata["run_id"]).data.tags["mlflow.parentRunId"])
    heading = {
        "helped": "Transfer helped",
        "hurt": "Transfer hurt",
        "no evidence": "No evidence that transfer helped",
    }[board.verdict]
    console = Console(file=io.StringIO(), width=200)
    console.print(verdict(board.sentence))

    assert made["leaderboard"].metadata["verdict"] == made["winner"].metadata["verdict"] == board.verdict
    assert parent.data.tags["headstart.verdict"] == board.verdict
    assert parent.data.tags["mlflow.note.content"].startswith(f"**{board.verdict}**: ")
    assert parent.data.tags["headstart.sentence"].startswith(f"{board.verdict}: ")
    assert compare(client, "stripes").sentence.startswith(f"{board.verdict}: ")
    assert Evidence.load(Path(made["winner"].path) / EVIDENCE).verdict == board.verdict
    assert f"{board.verdict}: " in version.description
    assert heading in Path(made["report"].path).read_text()
    assert console.file.getvalue().strip().startswith(board.verdict)


def test_a_baseline_that_is_better_on_held_out_samples_is_delivered_and_registered_without_a_source(floor, tmp_path):
    def copied(artifact, **certainties):
        """The artifact's copy with held-out predictions that give the labels this probability, by the model's folder
        in it."""
        copy = type(artifact)(
            name=artifact.name, uri=str(tmp_path / Path(artifact.path).parent.name), metadata=artifact.metadata
        )
        shutil.copytree(artifact.path, copy.path)
        for below, certainty in certainties.items():
            place = Path(copy.path) / below.strip("_")
            held_out = read_held_out(place)
            others = (1 - certainty) / (len(held_out.classes) - 1)
            probabilities = np.where(np.eye(len(held_out.classes))[held_out.labels] == 1, certainty, others)
            replace(held_out, outputs=probabilities).save(held_out_path(place))
        return copy

    fitted = floor.outputs["baselines"]["fitted"]
    better = copied(fitted, scratch=0.99, classical=0.001)
    inputs = {
        "dataset": floor.outputs["prepare target"]["dataset"],
        "source": floor.outputs["select"]["source"],
        "pretrained": floor.returned["register source"],
        "models": [copied(floor.outputs["zero"]["model"], _=0.001), copied(floor.outputs["partial"]["model"], _=0.002)],
    }
    made = floor.call(evaluate, "evaluate a better baseline", baselines=better, evaluation={}, seed=0, **inputs)
    board = Leaderboard.from_json(Path(made["leaderboard"].path).read_text())
    floor.call(
        register, "register a baseline", role="target", modality="image", seed=0, model=made["winner"],
        target_data={"uri": "data", "size": 8}, strategies=[{"name": "zero", "transfer": "zero"}],
        source_candidates=["models:/stripes-source/1"],
    )  # fmt: skip
    client = connect()
    registered = client.get_model_version_by_alias("stripes-target", "challenger")
    parent = client.get_run(client.get_run(made["report"].metadata["run_id"]).data.tags["mlflow.parentRunId"])

    assert (board.delivered, board.chosen.kind) == ("scratch", "transfer")
    assert "scratch, a baseline: it has a lower log loss on held-out samples than" in board.delivery
    assert made["winner"].metadata["strategy"] == parent.data.tags["headstart.delivered"] == "scratch"
    assert bundle_digest(Path(made["winner"].path)) == bundle_digest(Path(fitted.path) / "scratch")
    assert f"Delivered: {board.delivery}" in parent.data.tags["mlflow.note.content"]
    assert "Delivered: scratch, a baseline" in Path(made["report"].path).read_text()
    assert registered.tags["headstart.strategy"] == "scratch"
    assert "headstart.source_model" not in registered.tags
    assert "trained from scratch" in registered.description
    record = read_version(client, registered)
    assert (record.gaps, record.unknown) == ((), ())


def test_a_target_becomes_the_challenger_and_a_source_does_not(floor):
    aliases = {name: connect().get_registered_model(name).aliases for name in ("stripes-source", "stripes-target")}

    assert list(aliases["stripes-source"]) == []
    assert list(aliases["stripes-target"]) == ["challenger"]


def test_a_section_that_came_through_kubeflow_may_have_floats_for_whole_numbers(floor, tmp_path):
    data = {"uri": str(Path(floor.outputs["evaluate"]["report"].path).parents[1] / "data"), "size": 8.0}

    floor.call(prepare_data, "floats", modality="image", role="source", data=data, seed=0)

    assert (
        floor.outputs["floats"]["dataset"].metadata["digest"]
        == floor.outputs["prepare source"]["dataset"].metadata["digest"]
    )


def test_a_section_that_does_not_fit_is_refused_with_its_key(floor):
    with pytest.raises(InputError, match=r"strategies: transfer: 'whole' is not one of"):
        floor.call(
            finetune,
            "refused",
            strategy={"name": "a", "transfer": "whole"},
            training={},
            evaluation={},
            seed=0,
            dataset=floor.outputs["prepare target"]["dataset"],
            source=floor.outputs["select"]["source"],
        )


def test_a_step_that_fails_ends_its_run_as_failed(floor):
    before = {run.info.run_id for run in connect().search_runs(["1"])}

    with pytest.raises(InputError, match="does not exist"):
        floor.call(prepare_data, "nowhere", modality="image", role="source", data={"uri": "nowhere", "size": 8}, seed=0)

    (run,) = (run for run in connect().search_runs(["1"]) if run.info.run_id not in before)
    assert (run.info.run_name, run.info.status) == ("prepare-source", "FAILED")


def test_a_source_without_labels_goes_through_every_step_up_to_the_choice(floor, tmp_path):
    """Its figures are left out and not made up; the target then finds it among its candidates."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    data = Dataset.open(Path(floor.outputs["prepare source"]["dataset"].path)).manifest["source"]["uri"]
    for file in Path(data).glob("*/*.png"):
        shutil.copyfile(file, pictures / f"{file.parent.name}-{file.name}")
    data = {"uri": str(pictures), "size": 8}
    section = {"objective": "vicreg", "epochs": 1}
    packed = floor.call(prepare_data, "prepare nameless", modality="image", role="source", data=data, seed=0)["dataset"]
    made = floor.call(pretrain, "pretrain nameless", pretraining=section, seed=0, dataset=packed)
    floor.call(
        register,
        "register nameless",
        role="source",
        modality="image",
        seed=0,
        source_data=data,
        source_pretraining=section,
        model=made["model"],
    )
    version = floor.returned["register nameless"]
    target = floor.outputs["prepare target"]["dataset"]
    chosen = floor.call(select_source, "select nameless", candidates=[version], seed=0, dataset=target)

    assert packed.metadata["classes"] == 0
    assert not {"test/accuracy", "test/macro_f1"} & made["model"].metadata.keys()
    assert json.loads(Path(made["metrics"].path).read_text()) == {}
    run = connect().get_run(made["model"].metadata["run_id"])
    assert run.data.params["objective"] == "vicreg"
    assert {"train/loss", "val/loss"} <= run.data.metrics.keys()
    assert not [name for name in run.data.metrics if "accuracy" in name]
    assert chosen["source"].metadata["digest"] == bundle_digest(Path(made["model"].path))


@pytest.mark.parametrize(
    ("state", "ended"),
    # What the backend says; what kfp.local says; a failure; what a run is in that is being terminated.
    [("COMPLETE", "FINISHED"), ("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("RUNNING", "KILLED")],
)
def test_the_record_ends_with_what_became_of_the_run_and_no_step_in_it_runs_on(floor, monkeypatch, state, ended):
    client = connect()
    parent = new_parent(client, "1", name=state, pipeline_run=state)
    left, done = (child_run(parent, name, {}) for name in ("left", "done"))
    end(done, "FINISHED")
    monkeypatch.setenv(PARENT_VARIABLE, parent.id)

    floor.call(close_record, f"close {state}", status=PipelineTaskFinalStatus(state, "a", "b", None, None))

    assert [client.get_run(run.id).info.status for run in (parent, left, done)] == [ended, "KILLED", "FINISHED"]


def test_data_that_were_prepared_for_another_experiment_are_found_in_the_state_and_lead_to_the_run_that_did_it(
    floor, monkeypatch, tmp_path
):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    source = Path(Dataset.open(Path(floor.outputs["prepare source"]["dataset"].path)).manifest["source"]["uri"])
    data = {"uri": str(shutil.copytree(source, tmp_path / "data")), "size": 8, "fingerprint": "stat:1"}
    inputs = {"modality": "image", "role": "target", "data": data, "seed": 0}
    first = floor.call(prepare_data, "prepare for one", **inputs)["dataset"]
    # What is not read need not be there.
    shutil.rmtree(tmp_path / "data")
    second = floor.call(prepare_data, "prepare for another", experiment="another", **inputs)["dataset"]

    digests = [{path.name: path.read_bytes() for path in Path(each.path).iterdir()} for each in (first, second)]
    assert digests[0] == digests[1]
    assert second.metadata["digest"] == first.metadata["digest"]
    run = connect().get_run(second.metadata["run_id"])
    assert run.data.tags["headstart.reused_from"] == first.metadata["run_id"] != run.info.run_id
    with pytest.raises(InputError, match="does not exist"):
        floor.call(prepare_data, "prepare otherwise", **{**inputs, "data": {**data, "labels_per_class": 3}})


def test_a_streamed_data_set_hands_on_its_index_alone_and_a_later_run_finds_it_in_the_state(
    floor, monkeypatch, tmp_path
):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    copied = Dataset.open(Path(floor.outputs["prepare source"]["dataset"].path))
    data = {"uri": copied.manifest["source"]["uri"], "size": 8, "fingerprint": "stat:3", "stream": "always"}
    inputs = {"modality": "image", "role": "source", "data": data, "seed": 0}
    first = floor.call(prepare_data, "prepare streamed", **inputs)["dataset"]
    second = floor.call(prepare_data, "prepare streamed again", experiment="another", **inputs)["dataset"]

    assert second.metadata["digest"] == first.metadata["digest"] == copied.digest
    assert not list(Path(first.path).glob("*.npy"))
    found, expected = Dataset.open(Path(second.path)).split("test"), copied.split("test")
    pictures = dict(zip(expected.paths.tolist(), expected.samples, strict=True))
    assert len(found.paths) == len(pictures)
    assert all(np.array_equal(found.samples[row], pictures[path]) for row, path in enumerate(found.paths.tolist()))


def test_a_damaged_data_set_in_the_state_is_prepared_again(floor, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    source = Dataset.open(Path(floor.outputs["prepare source"]["dataset"].path)).manifest["source"]["uri"]
    data = {"uri": source, "size": 8, "fingerprint": "stat:2"}
    inputs = {"modality": "image", "role": "target", "data": data, "seed": 0}
    whole = floor.call(prepare_data, "prepare whole", **inputs)["dataset"]
    (kept,) = (tmp_path / "state" / "prepared").glob("*/train.npy")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.unlink()
    kept.write_bytes(content)
    again = floor.call(prepare_data, "prepare after damage", **inputs)["dataset"]

    assert "train.npy is damaged" in caplog.text
    assert (Path(again.path) / "train.npy").read_bytes() == (Path(whole.path) / "train.npy").read_bytes()
    assert "headstart.reused_from" not in connect().get_run(again.metadata["run_id"]).data.tags
