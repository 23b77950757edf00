"""What a local run takes over from earlier ones, and that it takes over nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart_pipelines.runner.artifact import Artifact
from headstart_pipelines.runner.step_cache import StepCache


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace that keeps the outputs of one step under the key `k`: a folder, a file and a parameter."""
    workspace = tmp_path / "workspace"
    folder = workspace / "pipeline" / "pretrain"
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"weights")
    (folder / "model" / "deep" / "card").write_bytes(b"card")
    (folder / "metrics").write_text("{}")
    StepCache(workspace).put("k", outputs(workspace))
    return workspace


def outputs(workspace: Path) -> dict[str, object]:
    """What the step put out."""
    folder = workspace / "pipeline" / "pretrain"
    return {
        "model": Artifact(
            "model", str(folder / "model"), "system.Model", metadata={"digest": "sha256:1", "run_id": "r"}
        ),
        "metrics": Artifact("metrics", str(folder / "metrics"), "system.Metrics"),
        "Output": "models:/two-source/1",
    }


def key(workspace: Path, *inputs: object) -> str:
    """The key of a task with these inputs."""
    return StepCache(workspace).compute_key("comp-finetune", "image", ["python"], {"inputs": list(inputs)})


def test_what_is_whole_is_taken_over(workspace):
    found = StepCache(workspace).get("k")
    assert found["Output"] == "models:/two-source/1"
    assert found["model"].title == "system.Model"
    assert found["model"].metadata == {"digest": "sha256:1", "run_id": "r"}
    assert Path(found["model"].uri, "weights").read_bytes() == b"weights"


def test_an_unknown_step_is_not_taken_over(workspace):
    assert StepCache(workspace).get("another") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: (model / "weights").write_bytes(b"Weights"),
        lambda model: (model / "weights").write_bytes(b""),
        lambda model: (model / "deep" / "card").unlink(),
        lambda model: (model / "weights").rename(model / "deep" / "weights"),
        lambda model: (model / "more").touch(),
    ],
    ids=["changed", "emptied", "incomplete", "rearranged", "mixed up with more"],
)
def test_a_damaged_artifact_is_said_and_its_step_runs_again(spoil: Callable[[Path], object], workspace, capsys):
    model = workspace / "pipeline" / "pretrain" / "model"
    spoil(model)

    assert StepCache(workspace).get("k") is None
    assert capsys.readouterr().err == f"headstart: {model} is damaged; its step runs again.\n"
    assert StepCache(workspace).get("k") is None
    assert capsys.readouterr().err == ""


def test_a_step_whose_artifact_was_removed_runs_again(workspace):
    shutil.rmtree(workspace / "pipeline" / "pretrain" / "model")
    assert StepCache(workspace).get("k") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outputs": {}}', '{"digests": {"a": 1}, "outputs": 3}', "\0"])
def test_an_entry_that_cannot_be_read_is_none(text, workspace, capsys):
    (workspace / "cache" / "k.json").write_text(text)
    assert StepCache(workspace).get("k") is None


def test_an_artifact_that_was_never_written_is_not_taken_over(workspace):
    lost = Artifact("lost", str(workspace / "pipeline" / "lost"))
    StepCache(workspace).put("l", {"lost": lost})
    assert StepCache(workspace).get("l") is None


def test_a_workspace_that_was_moved_takes_over_its_own_artifacts_and_none_of_where_it_was(workspace, tmp_path):
    copy = shutil.copytree(workspace, tmp_path / "copy")

    found = StepCache(copy).get("k")

    assert found["model"].uri == str(copy / "pipeline" / "pretrain" / "model")
    assert json.loads((copy / "cache" / "k.json").read_text()) == json.loads(
        (workspace / "cache" / "k.json").read_text()
    )
    assert str(tmp_path) not in (copy / "cache" / "k.json").read_text()


def test_an_input_of_the_same_content_is_the_same_wherever_it_lies_and_whichever_run_made_it(workspace, tmp_path):
    here, there = outputs(workspace)["model"], outputs(shutil.copytree(workspace, tmp_path / "copy"))["model"]
    there.metadata.update(run_id="another", seconds=3.0)
    assert key(workspace, here) == key(tmp_path / "copy", there)


def test_an_input_of_another_content_or_meaning_is_another(workspace, tmp_path):
    before = key(workspace, outputs(workspace)["model"], 1)
    other = outputs(workspace)["model"]
    other.metadata["digest"] = "sha256:2"
    assert len({before, key(workspace, other, 1), key(workspace, outputs(workspace)["model"], 2)}) == 3
    (workspace / "pipeline" / "pretrain" / "model" / "weights").write_bytes(b"Weights")
    assert key(workspace, outputs(workspace)["model"], 1) != before


def test_another_image_code_or_command_is_another_task(workspace):
    cache = StepCache(workspace)
    keys = {
        cache.compute_key(component, image, [command], {}, environment)
        for component, image, command, environment in [
            ("a", "i", "c", {}), ("b", "i", "c", {}), ("a", "j", "c", {}), ("a", "i", "d", {}),
            ("a", "i", "c", {"v": "1"}),
        ]
    }  # fmt: skip
    assert len(keys) == 5
