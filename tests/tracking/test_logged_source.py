"""What runs logged with MLflow's own flavours is a source where it can be read, and refused with a remedy elsewhere."""

import inspect
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.importing import import_source
from headstart.models.sources import load_source, pin_source
from headstart.tracking.registry import fetch, resolve
from tests.models.test_imported import vit


@pytest.fixture
def logged(client, new_run):
    """Logs something in a run, by mlflow's own functions; returns the run's id and what they return."""

    def log(write) -> tuple[str, Any]:
        run = new_run()
        with mlflow.start_run(run.id):
            return run.id, write()

    return log


def transformers_model(folder: Path) -> Any:
    import transformers

    model = vit(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    return mlflow.transformers.log_model(
        {"model": model, "image_processor": processor},
        name="theirs",
        task="image-classification",
        pip_requirements=["transformers"],
    )


@pytest.mark.slow
def test_what_mlflow_transformers_logged_is_a_source_by_its_run_and_by_its_own_id(logged, tmp_path):
    run, info = logged(lambda: transformers_model(tmp_path / "saved"))

    pinned = pin_source(f"runs:/{run}/theirs", resolve_registered=resolve)

    assert pinned.startswith(f"runs:/{run}/theirs#sha256=")
    assert info.model_uri.startswith("models:/m-")
    assert pin_source(info.model_uri, resolve_registered=resolve) == pinned
    found = import_source(pinned, tmp_path / "bundle", fetch_registered=fetch)
    assert found.difference < 1e-5
    bundle = load_source(pinned, fetch_registered=fetch)
    assert (bundle.classes, bundle.preprocessing.interpolation) == (("cat", "dog", "owl"), "bicubic")
    assert bundle.provenance["source"] == pinned


def test_a_folder_that_save_pretrained_wrote_and_a_bundle_among_a_runs_artifacts_are_sources(logged, bundle, tmp_path):
    vit(tmp_path / "saved")
    ours = bundle(tmp_path / "ours")

    def write():
        mlflow.log_artifacts(str(tmp_path / "saved"), "models/saved")
        mlflow.log_artifacts(str(ours), "ours")

    run, _ = logged(write)

    saved = load_source(
        pin_source(f"runs:/{run}/models/saved", resolve_registered=resolve), fetch_registered=fetch, modality="image"
    )
    again = load_source(pin_source(f"runs:/{run}/ours", resolve_registered=resolve), fetch_registered=fetch)

    assert saved.architecture.startswith("transformers/vit")
    samples = again.preprocessing.noise(2)
    assert np.array_equal(again.predict_logits(samples), ModelBundle.load(ours).predict_logits(samples))


def test_artifacts_that_changed_after_they_were_pinned_are_refused(logged, bundle, tmp_path):
    run, _ = logged(lambda: mlflow.log_artifacts(str(bundle(tmp_path / "one")), "ours"))
    pinned = pin_source(f"runs:/{run}/ours", resolve_registered=resolve)
    logged_again = bundle(tmp_path / "other", seed=1)
    with mlflow.start_run(run):
        mlflow.log_artifacts(str(logged_again), "ours")

    with pytest.raises(InputError, match=r"was pinned to sha256:.* and its content is sha256:.* now"):
        load_source(pinned, fetch_registered=fetch)


def test_a_pickled_model_is_refused_with_a_remedy_and_never_read(logged, monkeypatch):
    # An older MLflow has no other format.
    formats = inspect.signature(mlflow.pytorch.log_model).parameters.keys() & {"serialization_format"}

    def write() -> Any:
        return mlflow.pytorch.log_model(
            torch.nn.Linear(2, 3), name="net", pip_requirements=["torch"], **dict.fromkeys(formats, "pickle")
        )

    run, info = logged(write)
    monkeypatch.setattr(torch, "load", None)

    for uri in (f"runs:/{run}/net", info.model_uri):
        with pytest.raises(
            InputError, match=r"logged by mlflow\.pytorch, .* neither is read: log it with mlflow"
        ) as told:
            pin_source(uri, resolve_registered=resolve)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("runs:/{run}/nothing", "cannot be fetched|holds neither a bundle"),
        ("runs:/{run}/note.txt", "is a file, and no folder of a model"),
        ("runs:/{run}/notes", "holds neither a bundle nor a model"),
        ("runs:/0123456789abcdef0123456789abcdef/net", "cannot be fetched"),
        ("runs:/{run}", "names no model of a run; write runs:/RUN_ID/NAME"),
        ("runs:/{run}/../../secret", "names no model of a run"),
        ("models:/m-0123456789abcdef0123456789abcdef", "The record has no model"),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(logged, uri, told, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("no model")

    def write() -> None:
        mlflow.log_artifact(str(tmp_path / "notes" / "note.txt"))
        mlflow.log_artifacts(str(tmp_path / "notes"), "notes")

    run, _ = logged(write)

    with pytest.raises(InputError, match=told) as refused:
        pin_source(uri.format(run=run), resolve_registered=resolve)
    assert "\n" not in str(refused.value)


def test_without_a_record_such_a_source_is_refused():
    with pytest.raises(InputError, match=r"names a model of MLflow's record and no registry is at hand"):
        pin_source("runs:/0123/net")
