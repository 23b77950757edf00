"""A bundle as an MLflow logged model: the servable model with its evidence and recipe."""

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.storage.local import write_json
from headstart.tracking.champion_ledger import without_ledger
from headstart.tracking.names import MODEL_DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model

    from headstart.models.bundle import ModelBundle

# Paths of the parts inside a logged model.
BUNDLE = "artifacts/bundle"
EVIDENCE = "artifacts/evidence"
RECIPE = "recipe.json"
EXAMPLE = "input_example.json"
"""MLflow's own file name for the example request of a model"""


def logged_model(
    client: "MlflowClient",
    run_id: str,
    bundle: Path,
    loaded: "ModelBundle",
    digest: str,
    *,
    evidence: Path | None,
    figures: Mapping[str, float],
    recipe: Mapping[str, Any] | None,
) -> "LoggedModel":
    """Return the run's logged model with this digest; create it if there is none, named after its strategy, with the
    run's parameters and `figures` on its page.

    An unfinished one, whose creator was killed or is still writing, is written again and finalised. Concurrent writers
    do no harm, because they write equal content under equal names.
    """
    trained = client.get_run(run_id)
    experiment_id = trained.info.experiment_id
    found = client.search_logged_models(
        [experiment_id], f"tags.`{MODEL_DIGEST}` = '{digest}' AND source_run_id = '{run_id}'"
    )
    ready = [model for model in found if model.status == "READY"]
    if ready:
        return min(ready, key=_age)
    logged = (
        min(found, key=_age)
        if found
        else client.create_logged_model(
            experiment_id,
            _name(loaded),
            source_run_id=run_id,
            tags={MODEL_DIGEST: digest},
            params={"architecture": loaded.architecture, **without_ledger(trained.data.params)},
        )
    )
    if figures:
        _log_figures(client, run_id, logged, figures)
    with tempfile.TemporaryDirectory() as folder:
        content = _write(Path(folder), run_id, logged, bundle, loaded, evidence=evidence, recipe=recipe)
        client.log_model_artifacts(logged.model_id, str(content))
    return client.finalize_logged_model(logged.model_id, "READY")


def _name(loaded: "ModelBundle") -> str:
    # Characters that MLflow refuses in the name of a model; a foreign bundle may name anything.
    return re.sub(r"[/:.%\"']", "-", str(loaded.provenance.get("strategy") or loaded.architecture))


def show_on_run(client: "MlflowClient", run_id: str, model_id: str) -> None:
    """Show a logged model on its run's page."""
    from mlflow.entities import LoggedModelOutput

    def is_shown() -> bool:
        outputs = client.get_run(run_id).outputs
        return any(output.model_id == model_id for output in (outputs.model_outputs if outputs else []))

    if not is_shown():
        write_once(lambda: client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)]), is_shown)


def write_once(write: Callable[[], object], is_written: Callable[[], bool]) -> None:
    """Write a value that another process may be writing too; an error of the store is ignored if the value is there
    afterwards."""
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException:
        if not is_written():
            raise


def _age(model: "LoggedModel") -> tuple[int, str]:
    # The id breaks ties in the same way for every process.
    return model.creation_timestamp, model.model_id


def _log_figures(client: "MlflowClient", run_id: str, logged: "LoggedModel", figures: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    # The model's own creation time, so that a repetition writes identical points.
    at = logged.creation_timestamp
    metrics = [Metric(name, value, at, 0, model_id=logged.model_id) for name, value in figures.items()]
    client.log_batch(run_id, metrics=metrics)


def _write(
    folder: Path,
    run_id: str,
    logged: "LoggedModel",
    bundle: Path,
    loaded: "ModelBundle",
    *,
    evidence: Path | None,
    recipe: Mapping[str, Any] | None,
) -> Path:
    """Write the logged model's directory inside `folder` and return its path."""
    from mlflow.models import Model

    from headstart.models.bundle import FILES

    # MLflow keeps the name of each artifact's directory.
    artifacts = {"bundle": folder / Path(BUNDLE).name}
    artifacts["bundle"].mkdir()
    # Only the bundle's files, not others that a step has written next to them.
    for name in FILES:
        shutil.copyfile(bundle / name, artifacts["bundle"] / name)
    if evidence:
        artifacts["evidence"] = shutil.copytree(evidence, folder / Path(EVIDENCE).name)
        if recipe:
            write_json(artifacts["evidence"] / RECIPE, dict(recipe))
    described = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=run_id,
    )
    save_pyfunc(folder / "model", loaded, artifacts, described=described)
    return folder / "model"


def requirement_of(bundle: "ModelBundle") -> str:
    """What pip has to install where the model runs: `headstart[onnx]==1.0`, with the extras that read its samples and
    run its network."""
    from headstart.modalities import modality
    from headstart.models.architectures import extras_of
    from headstart.version import __version__

    read_by = modality(bundle.modality).extra
    extras = extras_of(bundle.architecture) | ({read_by} if read_by else set())
    named = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"headstart{named}=={__version__}"


def save_pyfunc(
    path: Path,
    bundle: "ModelBundle",
    artifacts: Mapping[str, Path],
    *,
    with_example: bool = True,
    described: "Model | None" = None,
) -> None:
    """Write a model that MLflow loads and serves to the new folder `path`.

    Args:
        artifacts: folders that are copied into it by name; `bundle` is the bundle's own.
        with_example: keep an example of a request, on which MLflow runs the model.
        described: what MLflow is to know of it beside; None: what it finds.
    """
    import mlflow

    from headstart.tracking import serving

    # "Model from code": the pyfunc is a source file and the weights are the bundle's, so nothing is pickled.
    mlflow.pyfunc.save_model(
        path,
        python_model=serving.__file__,
        artifacts={name: str(each) for name, each in artifacts.items()},
        signature=serving.signature(bundle),
        input_example=serving.input_example(bundle) if with_example else None,
        pip_requirements=[requirement_of(bundle)],
        mlflow_model=described,
    )
