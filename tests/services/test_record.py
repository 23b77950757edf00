"""The pipeline `transfer`, driven as a person does, leaves its whole record with a team's servers."""

import json
import pickle
import pickletools
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import save

from headstart.tracking import names
from tests.services.conftest import FinishedRun
from tests.services.contents import files, is_pickle, opened
from tests.services.stack import Stack

pytestmark = pytest.mark.services

STEPS = {
    "prepare-source",
    "pretrain",
    "register-source",
    "prepare-target",
    "select-source",
    "evaluate",
    "register-target",
}
TRAINED = {"partial", "full", "scratch"}
CONTENDERS = TRAINED | {"zero", "classical"}
EPOCHS, PRETRAINED = 4, 24


def test_the_pipeline_run_and_every_step_and_strategy_of_it_are_there_and_finished(
    finished_run: FinishedRun, record: MlflowClient
) -> None:
    parent, children = finished_run.parent(record), finished_run.children(record)
    assert children.keys() == STEPS | CONTENDERS
    assert {run.info.status for run in [parent, *children.values()]} == {"FINISHED"}


@pytest.mark.parametrize(("name", "first"), [("val/accuracy", 0), ("val/loss", 0), ("train/loss", 1)])
def test_every_trained_contender_has_its_curve_with_the_epochs_as_steps(
    finished_run: FinishedRun, record: MlflowClient, name: str, first: int
) -> None:
    children = finished_run.children(record)
    steps = {
        child: [metric.step for metric in record.get_metric_history(children[child].info.run_id, name)]
        for child in [*TRAINED, "pretrain"]
    }
    assert steps.pop("pretrain") == list(range(first, PRETRAINED + 1))
    assert all(found == list(range(first, EPOCHS + 1)) for found in steps.values()), steps


def test_the_record_says_what_the_leaderboard_says(finished_run: FinishedRun, record: MlflowClient) -> None:
    board, children = finished_run.leaderboard, finished_run.children(record)
    assert {entry.strategy for entry in board.entries} == CONTENDERS
    for entry in board.entries:
        recorded = children[entry.strategy].data.metrics
        assert recorded["test/accuracy"] == pytest.approx(entry.value)
        if entry.gain is not None:
            assert recorded["gain/accuracy"] == pytest.approx(entry.gain)
    assert finished_run.parent(record).data.tags[names.VERDICT] == board.verdict


def test_report_and_resolved_recipe_can_be_fetched_by_whoever_has_the_password(
    finished_run: FinishedRun, record: MlflowClient
) -> None:
    parent = finished_run.parent(record).info.run_id
    assert "<html" in Path(record.download_artifacts(parent, "report.html")).read_text()
    recipe = json.loads(Path(record.download_artifacts(parent, "recipe.json")).read_text())
    assert recipe["training"]["epochs"] == EPOCHS


def test_source_and_target_are_registered_with_their_lineage_both_ways(
    finished_run: FinishedRun, record: MlflowClient
) -> None:
    source = record.get_model_version(f"{finished_run.experiment}-source", "1")
    target = record.get_model_version_by_alias(f"{finished_run.experiment}-target", names.CHALLENGER)
    assert target.tags[names.SOURCE_MODEL] == f"models:/{source.name}/{source.version}"
    assert target.tags[names.SOURCE_DIGEST] == source.tags[names.MODEL_DIGEST]
    assert f"{names.DESCENDANT_PREFIX}{target.name}/{target.version}" in source.tags
    assert target.run_id == finished_run.children(record)[finished_run.leaderboard.chosen.strategy].info.run_id


def test_the_registered_model_predicts_where_unpickling_is_forbidden(
    stack: Stack, finished_run: FinishedRun, record: MlflowClient
) -> None:
    assert stack.server_environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert finished_run.environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    uri = f"models:/{finished_run.experiment}-target@{names.CHALLENGER}"
    picture = next((finished_run.place / "digits").rglob("*.png"))
    done = subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", "predict", uri, str(picture)],
        env=finished_run.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(picture) in done.stdout


def test_nothing_that_is_kept_is_a_pickle(stack: Stack, finished_run: FinishedRun) -> None:
    kept = [*stack.objects().items(), *files(finished_run.workspace)]
    assert any(name.endswith("model.safetensors") for name, _ in kept)
    assert [name for file in kept for name, content in opened(*file) if is_pickle(content)] == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_would_be_recognised_under_any_name_and_in_an_archive(protocol: int) -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("weights.safetensors", pickle.dumps(Path("x"), protocol))
    found = [is_pickle(content) for _, content in opened("model.bin", archive.getvalue())]
    assert found == [False, True]


def test_weights_whose_bytes_are_a_program_for_the_unpickler_are_no_pickle() -> None:
    tensor = torch.frombuffer(bytearray(b"-\ncos\nsystem\n."), dtype=torch.uint8)
    # The header's length is a multiple of 8; P has the unpickler read on to the end of the line.
    files = (save({"weights": tensor}, {"padding": "-" * count}) for count in range(0, 256, 8))
    content = next(each for each in files if each.startswith(b"P"))
    assert "GLOBAL" in {operation.name for operation, _, _ in pickletools.genops(content)}
    assert not is_pickle(content)
