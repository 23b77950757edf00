import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.errors import HeadstartError, InputError
from headstart.judging.evidence import Evidence
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.reference import by_content
from headstart.models.sources import load_source, pin_source
from headstart.recipe.recipe import load_recipe
from headstart.tracking.names import MODEL_DIGEST
from headstart.tracking.registration import register
from headstart.tracking.registry import Registered, evidence, fetch, find_version, resolve

SAMPLES = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 1), dtype=np.uint8)


def test_a_version_says_what_it_is_and_where_it_comes_from(registry, source, target):
    version = find_version(registry, target.uri)
    assert {key: value for key, value in version.tags.items() if key.startswith("headstart.")} == {
        "headstart.role": "target",
        "headstart.strategy": "full",
        "headstart.model_digest": target.digest,
        "headstart.data_digest": "sha256:1",
        "headstart.train_digest": "sha256:2",
        "headstart.test_digest": "sha256:3",
        "headstart.source_model": "models:/pets-source/1",
        "headstart.source_digest": source.digest,
    }
    assert version.aliases == ["challenger"]
    origin = find_version(registry, source.uri)
    assert origin.tags["headstart.descendant/pets-target/1"] == target.digest
    assert "headstart.source_model" not in origin.tags
    assert origin.aliases == []
    assert source.uri in version.description
    assert "helped: full gains +0.100 accuracy" in version.description


def test_a_registered_model_says_what_its_versions_are(registry):
    assert "headstart promote pets-target" in registry.get_registered_model("pets-target").description


def test_registering_a_bundle_again_gives_the_version_that_there_is(registry, target, family_home, new_run):
    again = register(new_run(), family_home / "target", model="pets-target", aliases=("challenger", "candidate"))
    assert again == target
    assert len(registry.search_model_versions("name = 'pets-target'")) == 1
    assert sorted(find_version(registry, target.uri).aliases) == ["candidate", "challenger"]


def test_registering_again_uploads_nothing(registry, family_home, new_run):
    before = logged(registry).keys()
    register(new_run(), family_home / "target", model="pets-target", evidence=family_home / "target-evidence")
    assert logged(registry).keys() == before
    assert len(before) == 2


# What a version holds


def test_a_version_brings_the_evidence_for_it(registry, target, family_home):
    found = evidence(registry, find_version(registry, target.uri))
    kept = Evidence.load(family_home / "target-evidence")
    assert (found.figures, found.sentence, found.digests) == (kept.figures, kept.sentence, kept.digests)
    assert np.array_equal(found.predictions.probabilities, kept.predictions.probabilities)
    assert found.trained_on.tolist() == kept.trained_on.tolist()


def test_a_version_that_was_registered_by_hand_has_no_evidence(registry, bundle, new_run, tmp_path):
    register(new_run(), bundle(tmp_path / "next", seed=2), model="birds")
    with pytest.raises(InputError, match="models:/birds/1 has no evidence: it was not registered by a pipeline"):
        evidence(registry, find_version(registry, "models:/birds/1"))


def test_damaged_evidence_registers_nothing(registry, bundle, write_evidence, new_run, tmp_path):
    proof = write_evidence(tmp_path / "evidence")
    (proof / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"predictions\.parquet"):
        register(new_run(), bundle(tmp_path / "next", seed=2), model="birds", evidence=proof)
    assert registry.search_registered_models("name = 'birds'") == []


def test_the_recipe_that_comes_with_a_version_is_one_that_can_be_run(registry, target, recipe, tmp_path):
    import mlflow

    path = mlflow.artifacts.download_artifacts(f"{target.uri}/artifacts/evidence/recipe.json", dst_path=str(tmp_path))
    assert load_recipe(Path(path)) == recipe


def test_the_models_page_shows_its_figures_and_its_run_shows_the_model(registry, target, family_home):
    version = find_version(registry, target.uri)
    (model,) = (each for each in logged(registry).values() if each.model_uri == version.source)
    assert {metric.key: metric.value for metric in model.metrics} == pytest.approx(
        dict(Evidence.load(family_home / "target-evidence").figures)
    )
    run = registry.get_run(version.run_id)
    assert model.model_id in [output.model_id for output in run.outputs.model_outputs]


def test_an_input_example_and_a_signature_come_with_a_version(registry, target):
    from mlflow.models import Model

    model = Model.load(target.uri)
    assert model.signature is not None
    assert model.saved_input_example_info is not None


def logged(client) -> dict[str, Any]:
    """The logged models by their ids."""
    experiment = client.get_experiment_by_name("pets").experiment_id
    return {model.model_id: model for model in client.search_logged_models([experiment])}


def test_a_logged_model_is_named_after_its_strategy_and_shows_parameters_and_metrics(
    registry, bundle, write_evidence, new_run, tmp_path
):
    run = new_run()
    run.log_params({"epochs": 3})
    path = bundle(tmp_path / "b", seed=7, role="target", strategy="full-l2sp")
    register(run, path, model="birds", evidence=write_evidence(tmp_path / "e"))
    (model,) = (each for each in logged(registry).values() if each.source_run_id == run.id)
    assert (model.name, model.params) == ("full-l2sp", {"architecture": "convnet", "epochs": "3"})
    assert "test/accuracy" in {metric.key for metric in model.metrics}


# Whatever happened before


class Killed(BaseException):
    """Stands for a kill: nothing here may catch it and tidy up."""


# Each is called once, in this order, so that a kill after one is a kill before the next.
STEPS = [
    "create_logged_model", "log_batch", "log_model_artifacts", "finalize_logged_model", "create_registered_model",
    "create_model_version", "log_outputs", "update_model_version", "set_model_version_tag",
    "set_registered_model_alias",
]  # fmt: skip


def test_a_registration_is_these_steps(registry, source, bundle, write_evidence, new_run, tmp_path, monkeypatch):
    run, done = new_run(), []

    def watched(step: str) -> Callable[..., Any]:
        original = getattr(run.client, step)
        return lambda *given, **named: done.append(step) or original(*given, **named)

    for step in STEPS:
        monkeypatch.setattr(run.client, step, watched(step))
    path = bundle(tmp_path / "next", role="target", source=source.reference, source_digest=source.digest)
    register(run, path, model="birds", evidence=write_evidence(tmp_path / "evidence"), aliases=("challenger",))
    assert done == STEPS


@pytest.mark.parametrize(("when", "step"), [*(("before", step) for step in STEPS), ("after", STEPS[-1])])
def test_a_registration_that_was_killed_is_completed_by_the_next(
    registry, source, bundle, write_evidence, new_run, tmp_path, monkeypatch, when, step
):
    """The service tests kill a process at every request to a real server; here each step is cut off in turn."""
    origin = {"source": source.reference, "source_digest": source.digest}
    run, path = new_run(), bundle(tmp_path / "next", seed=2, role="target", strategy="full", **origin)
    proof = write_evidence(tmp_path / "evidence")

    def once() -> Registered:
        return register(run, path, model="birds", evidence=proof, aliases=("challenger",))

    original = getattr(type(run.client), step)

    def killing(*arguments: Any, **named: Any) -> None:
        if when == "after":
            original(run.client, *arguments, **named)
        raise Killed

    monkeypatch.setattr(run.client, step, killing)
    with pytest.raises(Killed):
        once()
    monkeypatch.setattr(run.client, step, partial(original, run.client))
    registered = once()
    assert registered.version == "1"
    assert len(registry.search_model_versions("name = 'birds'")) == 1
    version = find_version(registry, registered.uri)
    assert version.aliases == ["challenger"]
    assert set(version.tags) == {
        f"headstart.{name}"
        for name in (
            "role", "strategy", "model_digest", "data_digest", "train_digest", "test_digest", "source_model",
            "source_digest",
        )
    }  # fmt: skip
    assert source.uri in version.description
    links = {key for key in find_version(registry, source.uri).tags if key.startswith("headstart.descendant/birds/")}
    assert links == {"headstart.descendant/birds/1"}
    (model,) = (each for each in logged(registry).values() if each.source_run_id == run.id)
    assert (model.status, model.model_uri) == ("READY", version.source)
    assert [output.model_id for output in registry.get_run(run.id).outputs.model_outputs] == [model.model_id]


def test_a_version_that_was_registered_from_the_page_is_completed(registry, target, family_home, new_run):
    version = find_version(registry, target.uri)
    registry.create_registered_model("birds")
    registry.create_model_version("birds", version.source, run_id=version.run_id)
    registered = register(
        new_run(),
        family_home / "target",
        model="birds",
        evidence=family_home / "target-evidence",
        trained_by=version.run_id,
    )
    assert registered.version == "1"
    completed = find_version(registry, "models:/birds/1")
    assert completed.tags == version.tags
    assert "models:/birds/1" in completed.description


def test_what_a_person_wrote_on_a_version_stays(registry, target, family_home, new_run):
    registry.update_model_version("pets-target", "1", "Ours.")
    registry.update_registered_model("pets-target", "Our models.")
    registry.set_model_version_tag("pets-target", "1", "headstart.strategy", "renamed")
    registry.delete_model_version_tag("pets-target", "1", "headstart.role")
    register(new_run(), family_home / "target", model="pets-target")
    version = find_version(registry, target.uri)
    assert (version.description, version.tags["headstart.strategy"]) == ("Ours.", "renamed")
    assert version.tags["headstart.role"] == "target", "what is missing is added"
    assert registry.get_registered_model("pets-target").description == "Our models."


def test_a_second_version_with_the_same_content_goes_unless_somebody_uses_it(registry, target, family_home, new_run):
    version = find_version(registry, target.uri)
    for alias in (None, "in-use"):
        made = registry.create_model_version("pets-target", version.source, tags={MODEL_DIGEST: target.digest})
        if alias:
            registry.set_registered_model_alias("pets-target", alias, made.version)
    assert register(new_run(), family_home / "target", model="pets-target") == target
    left = registry.search_model_versions("name = 'pets-target'")
    assert sorted(each.version for each in left) == [1, 3]


# Aliases and links


def test_an_old_run_that_is_repeated_takes_the_alias_from_no_later_version(
    registry, target, family_home, bundle, new_run, tmp_path
):
    path = bundle(tmp_path / "next", seed=2, role="target")
    register(new_run(), path, model="pets-target", aliases=("challenger",))
    register(new_run(), family_home / "target", model="pets-target", aliases=("challenger",))
    assert find_version(registry, "models:/pets-target@challenger").version == 2
    registry.delete_registered_model_alias("pets-target", "challenger")
    register(new_run(), family_home / "target", model="pets-target", aliases=("challenger",))
    assert find_version(registry, target.uri).aliases == [], "nor does it come back once the later one has lost it"


def test_the_champion_does_not_become_its_own_challenger(registry, target, family_home, new_run):
    registry.set_registered_model_alias("pets-target", "champion", "1")
    registry.delete_registered_model_alias("pets-target", "challenger")
    register(new_run(), family_home / "target", model="pets-target", aliases=("challenger",))
    assert find_version(registry, target.uri).aliases == ["champion"]


def test_a_source_that_is_gone_does_not_stop_its_descendant(registry, source, bundle, new_run, tmp_path):
    registry.delete_model_version("pets-source", "1")
    origin = {"source": source.reference, "source_digest": source.digest}
    registered = register(new_run(), bundle(tmp_path / "next", seed=2, role="target", **origin), model="birds")
    assert find_version(registry, registered.uri).tags["headstart.source_model"] == source.uri


def test_another_model_under_the_sources_name_is_not_called_its_source(registry, source, bundle, new_run, tmp_path):
    origin = {"source": source.reference, "source_digest": "sha256:" + "0" * 64}
    register(new_run(), bundle(tmp_path / "next", seed=2, role="target", **origin), model="birds")
    assert not any("descendant/birds" in key for key in find_version(registry, source.uri).tags)


def test_another_bundle_is_the_next_version_and_takes_over_the_alias(
    registry, source, target, bundle, new_run, tmp_path
):
    provenance = {"role": "target", "strategy": "full", "source": source.reference, "source_digest": source.digest}
    path = bundle(tmp_path / "next", seed=2, **provenance)
    run = new_run()
    registered = register(run, path, model="pets-target", aliases=("challenger",))
    assert (registered.version, registered.digest) == ("2", bundle_digest(path))
    assert find_version(registry, "models:/pets-target@challenger").version == 2
    assert find_version(registry, target.uri).aliases == []
    descendants = {key for key in find_version(registry, source.uri).tags if "descendant" in key}
    assert descendants == {"headstart.descendant/pets-target/1", "headstart.descendant/pets-target/2"}
    assert find_version(registry, registered.uri).run_id == run.id


def test_the_record_of_the_training_run_is_not_touched_but_for_the_model(registry, bundle, new_run, tmp_path):
    training, step = new_run("full"), new_run("register-target")
    training.log_metrics({"val/accuracy": 0.5}, step=1)
    registry.set_terminated(training.id, "FINISHED", end_time=12345)
    register(step, bundle(tmp_path / "next", seed=2), model="birds", trained_by=training.id)
    assert find_version(registry, "models:/birds/1").run_id == training.id
    info = registry.get_run(training.id).info
    assert (info.status, info.end_time) == ("FINISHED", 12345)
    assert registry.get_run(step.id).info.status == "RUNNING"


def test_a_bundle_that_was_changed_is_not_registered(registry, bundle, new_run, tmp_path):
    path = bundle(tmp_path / "next", seed=2)
    (path / "model.json").write_text((path / "model.json").read_text().replace("cat", "cow"))
    with pytest.raises(InputError, match="damaged or was changed"):
        register(new_run(), path, model="birds")
    assert registry.search_registered_models("name = 'birds'") == []


def test_a_registered_model_can_be_served_without_unpickling_anything(registry, target, family_home):
    import mlflow

    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    served = mlflow.pyfunc.load_model(target.uri)
    expected = ModelBundle.load(family_home / "target").predict_probabilities(SAMPLES)
    for count in (1, 2, 5):
        answer = served.predict(SAMPLES[:count])
        assert answer[["p_cat", "p_dog", "p_owl"]].to_numpy() == pytest.approx(expected[:count], abs=1e-5)
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"(?i)schema|shape"):
        served.predict(SAMPLES[:, :8])


def test_nothing_that_is_kept_is_a_pickle(family_home):
    kept = [file for file in (family_home / "artifacts").rglob("*") if file.is_file()]
    assert {"MLmodel", "model.safetensors", "SHA256SUMS"} <= {file.name for file in kept}
    assert {file.suffix for file in kept}.isdisjoint({".pkl", ".pickle", ".pt", ".pth", ".joblib"})
    # A pickle of protocol 2 and above starts with this byte, whatever its file is called.
    assert not any(file.read_bytes().startswith(b"\x80") for file in kept)


@pytest.mark.parametrize("uri", ["models:/pets-target@challenger", "models:/pets-target/1", "models:/pets-target"])
def test_a_reference_is_resolved_to_a_version_and_its_content(registry, target, uri):
    assert resolve(uri) == f"models:/pets-target/1#{target.digest.replace(':', '=')}" == target.reference


def test_a_version_is_found_by_its_content_whatever_its_number_is(registry, target):
    assert resolve(by_content("pets-target", target.digest)) == target.reference
    with pytest.raises(InputError, match="The registry has no models:/pets-target/sha256:000000000000"):
        resolve(by_content("pets-target", "sha256:" + "0" * 64))


def test_a_name_alone_is_the_champion_where_there_is_one_and_the_latest_elsewhere(registry, target):
    registry.create_model_version("pets-target", "file:///nowhere")
    assert find_version(registry, "models:/pets-target").version == 2
    registry.set_registered_model_alias("pets-target", "champion", "1")
    assert find_version(registry, "models:/pets-target").version == 1


def test_a_registered_source_is_loaded_as_it_was_registered(registry, source, family_home):
    reference = pin_source("models:/pets-source/1", resolve_registered=resolve)
    loaded = load_source(reference, fetch_registered=fetch)
    expected = ModelBundle.load(family_home / "source")
    assert np.array_equal(loaded.predict_logits(SAMPLES), expected.predict_logits(SAMPLES))
    assert bundle_digest(Path(fetch(source.uri))) == source.digest


def test_a_pinned_reference_whose_content_is_another_is_refused(registry, source, target):
    forged = source.reference.replace(source.digest.removeprefix("sha256:"), target.digest.removeprefix("sha256:"))
    with pytest.raises(InputError, match=f"was pinned to {target.digest} and its content is {source.digest} now"):
        load_source(forged, fetch_registered=fetch)


@pytest.mark.parametrize("uri", ["models:/cats/1", "models:/cats", "models:/pets-target/9", "models:/pets-target@best"])
def test_what_is_not_registered_is_refused_with_what_is(registry, uri):
    with pytest.raises(InputError, match=f"no {uri}; its models are: pets-source, pets-target"):
        find_version(registry, uri)


def test_a_version_that_headstart_did_not_register_is_no_source(registry):
    registry.create_registered_model("foreign")
    registry.create_model_version("foreign", "file:///nowhere")
    with pytest.raises(InputError, match="foreign/1 was not registered by headstart"):
        resolve("models:/foreign/1")


def test_a_model_that_mlflows_transformers_flavour_logged_is_a_source(registry, new_run, tmp_path):
    from tests.models.test_imported import vit

    model = vit(tmp_path / "saved")
    logged = tmp_path / "logged"
    # As mlflow.transformers.save_model lays it out.
    (logged / "components" / "image_processor").mkdir(parents=True)
    (logged / "MLmodel").write_text("flavors: {transformers: {model_binary: model}}\n")
    (tmp_path / "saved" / "preprocessor_config.json").rename(
        logged / "components" / "image_processor" / "preprocessor_config.json"
    )
    (tmp_path / "saved").rename(logged / "model")
    run = new_run()
    registry.log_artifacts(run.id, str(logged), "theirs")
    registry.create_registered_model("theirs")
    registry.create_model_version("theirs", f"runs:/{run.id}/theirs", run.id)

    pinned = pin_source("models:/theirs/1", resolve_registered=resolve)

    assert pinned.startswith("models:/theirs/1#sha256=")
    bundle = load_source(pinned, fetch_registered=fetch)
    assert (bundle.classes, bundle.preprocessing.interpolation) == (("cat", "dog", "owl"), "bicubic")
    inputs = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(bundle.network(inputs), model(pixel_values=inputs).logits, atol=1e-5)


def test_a_bundle_that_is_gone_from_the_artifacts_is_one_clear_error(registry, tmp_path):
    registry.create_registered_model("gone")
    registry.create_model_version("gone", (tmp_path / "gone").as_uri())
    with pytest.raises(HeadstartError, match="gone"):
        fetch("models:/gone/1")


def test_a_source_that_was_pretrained_without_labels_is_registered_with_what_there_is(
    registry, bundle, write_evidence, new_run, tmp_path
):
    loaded = ModelBundle.load(bundle(tmp_path / "labelled", objective="vicreg", head="none"))
    loaded.network.replace_head(0)
    loaded.classes = ()
    loaded.save(tmp_path / "bundle")
    nothing = Predictions(np.array(["a", "b"]), np.full(2, -1), np.empty((2, 0), dtype=np.float32), ())
    proof = write_evidence(tmp_path / "evidence", figures={}, predictions=nothing, sentence="It has no labels.")
    made = register(new_run(), tmp_path / "bundle", model="nameless-source", evidence=proof)
    version = registry.get_model_version("nameless-source", made.version)
    assert "pretrained without labels" in version.description
    assert evidence(registry, version).predictions.classes == ()
    assert ModelBundle.load(fetch(made.uri)).classes == ()
