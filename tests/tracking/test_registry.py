import os
from pathlib import Path

import numpy as np
import pytest

from headstart.errors import HeadstartError, InputError
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.models.sources import load_source, pin_source
from headstart.tracking.registry import fetch, find_version, register, resolve

SAMPLES = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 1), dtype=np.uint8)


def test_a_version_says_what_it_is_and_where_it_comes_from(registry, source, target):
    version = find_version(registry, target.uri)
    assert {key: value for key, value in version.tags.items() if key.startswith("headstart.")} == {
        "headstart.role": "target",
        "headstart.strategy": "full",
        "headstart.model_digest": target.digest,
        "headstart.data_digest": "sha256:1",
        "headstart.source_model": "models:/pets-source/1",
        "headstart.source_digest": source.digest,
    }
    assert version.aliases == ["challenger"]
    origin = find_version(registry, source.uri)
    assert origin.tags["headstart.descendant/pets-target/1"] == target.digest
    assert "headstart.source_model" not in origin.tags
    assert (origin.description, origin.aliases) == ("The source.", [])


def test_registering_a_bundle_again_gives_the_version_that_there_is(registry, target, family_home, new_run):
    again = register(new_run(), family_home / "target", model="pets-target", aliases=("challenger", "champion"))
    assert again == target
    assert len(registry.search_model_versions("name = 'pets-target'")) == 1
    assert sorted(find_version(registry, target.uri).aliases) == ["challenger", "champion"]


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
        assert served.predict(SAMPLES[:count]) == pytest.approx(expected[:count], abs=1e-5)
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


def test_a_bundle_that_is_gone_from_the_artifacts_is_one_clear_error(registry, tmp_path):
    registry.create_registered_model("gone")
    registry.create_model_version("gone", (tmp_path / "gone").as_uri())
    with pytest.raises(HeadstartError, match="gone"):
        fetch("models:/gone/1")
