"""`headstart clean` removes what nobody needs, and nothing that a registered version refers to."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from headstart.errors import InputError
from headstart_pipelines.clean import Waste, find_waste, referenced, remove
from tests.pipelines.conftest import client_of

MONTHS = 90 * 86_400


@pytest.fixture
def workspace(fresh, tmp_path: Path) -> Path:
    """A copy of a workspace in which all files are three months old."""
    place = shutil.copytree(fresh.workspace, tmp_path / "workspace", symlinks=True)
    then = time.time() - MONTHS
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            os.utime(Path(folder) / name, (then, then), follow_symlinks=False)
    return place


@pytest.fixture
def client(workspace) -> MlflowClient:
    return client_of(workspace)


@pytest.fixture
def needed(workspace, client, monkeypatch) -> Path:
    """The packed data set in the copy that its versions are said to be tested on."""
    data = next(path.parent for path in (workspace / "pipeline").glob("*/prepare-data*/dataset/manifest.json"))
    monkeypatch.setattr(
        "headstart.tracking.registry.evidence", lambda client, version: type("Evidence", (), {"dataset": str(data)})()
    )
    return data


def test_what_no_version_refers_to_goes_and_the_data_that_one_was_tested_on_stay(client, workspace, needed):
    kept = {path: path.read_bytes() for path in needed.rglob("*") if path.is_file()}
    record = {path: path.read_bytes() for path in (workspace / "mlartifacts").rglob("*") if path.is_file()}
    waste = find_waste(client, workspace, days=30)
    kinds = {each.kind for each in waste}
    assert {"step", "features", "cache"} <= kinds

    freed = remove(waste, workspace)

    assert freed == sum(each.size for each in waste) > 100_000
    assert all(path.read_bytes() == content for path, content in {**kept, **record}.items())
    assert not any(each.path.exists() for each in waste)
    assert find_waste(client, workspace, days=30) == []
    assert (workspace / "reports").is_dir()
    assert list((workspace / "logs").iterdir())


def test_the_data_that_versions_were_tested_on_are_found_in_their_evidence(fresh, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{fresh.workspace / 'mlflow.db'}")
    kept, all_known = referenced(fresh.client)

    assert all_known
    assert {place for place in kept if (place / "manifest.json").is_file()}
    waste = find_waste(fresh.client, fresh.workspace, days=30, now=time.time() + MONTHS)
    assert waste
    assert not any(place.is_relative_to(each.path) for place in kept for each in waste)


def test_showing_removes_nothing_and_says_sizes_first(cli, workspace, needed):
    before = sorted(workspace.rglob("*"))

    said = cli("clean", "--workspace", workspace)
    assert "nothing was removed" in said.out
    found = json.loads(cli("clean", "--json", "--workspace", workspace).out)
    assert (found["removed"], found["bytes"] > 100_000) == (False, True)
    assert [each["bytes"] for each in found["waste"]] == sorted((w["bytes"] for w in found["waste"]), reverse=True)
    assert sorted(workspace.rglob("*")) == before

    assert "are removed" in cli("clean", "--remove", "--workspace", workspace).out
    assert "Nothing in" in cli("clean", "--workspace", workspace).out


def test_what_is_young_stays_and_what_was_just_written_stays_whatever_is_asked(client, workspace, needed):
    young = workspace / "state" / "checkpoints" / "young.safetensors"
    young.parent.mkdir(exist_ok=True)
    young.write_bytes(b"now")

    assert young not in [each.path for each in find_waste(client, workspace, days=0)]
    assert find_waste(client, workspace, days=365) == []


def test_staging_of_a_dead_run_goes_after_a_day(client, workspace, needed):
    dead = workspace / "state" / ".drafts" / "half"
    dead.parent.mkdir(exist_ok=True)
    dead.write_bytes(b"half")
    then = time.time() - 2 * 86_400
    os.utime(dead, (then, then))

    assert [each.path.name for each in find_waste(client, workspace, days=365)] == ["half"]


def test_nothing_goes_while_a_run_is_at_work(client, workspace, needed):
    experiment = client.get_experiment_by_name("digits")
    client.create_run(experiment.experiment_id, run_name="busy", tags={"headstart.pipeline_run": "busy"})

    with pytest.raises(InputError, match="The run busy is at work"):
        find_waste(client, workspace, days=0)


def test_every_packed_data_set_stays_where_a_versions_evidence_cannot_be_read(client, workspace, monkeypatch):
    def damaged(client, version):
        raise InputError("It is damaged.")

    monkeypatch.setattr("headstart.tracking.registry.evidence", damaged)

    waste = find_waste(client, workspace, days=30)
    assert waste
    assert not any(list(each.path.rglob("manifest.json")) for each in waste if each.path.is_dir())


def test_a_link_goes_and_what_it_leads_to_stays(client, workspace, needed, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    link = workspace / "state" / "features" / "link"
    link.symlink_to(tmp_path / "mine")
    then = time.time() - MONTHS
    os.utime(link, (then, then), follow_symlinks=False)

    remove(find_waste(client, workspace, days=30), workspace)

    assert not link.is_symlink()
    assert (tmp_path / "mine" / "precious").exists()


def test_nothing_outside_of_the_workspace_is_removed(workspace, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="is not in the workspace"):
        remove([Waste(tmp_path / "mine", "step", 1, 1.0)], workspace)
    assert (tmp_path / "mine").exists()
