"""A registry that an earlier release filled goes on working: bundles of format 2 with the model code of that release.

fixtures/registry-2.tar.xz is a workspace's store as `headstart run` keeps it, moved here from another folder:
pets-source 1 and its descendants pets-target 1, the champion, and pets-target 2, the challenger. answers.json holds
the digests and what that release predicted for each version's stored example.
"""

import json
import shutil
import tarfile
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from headstart.judging.evidence import Evidence
from headstart.models.bundle import ModelBundle
from headstart.tracking import database, registry
from headstart.tracking.champion_history import read_history
from headstart.tracking.client import connect
from headstart.tracking.lineage import lineage
from headstart.tracking.promotion import promote, rollback

# Which wrote the store.
pytest.importorskip("mlflow", minversion="3.17")

ARCHIVE = Path(__file__).parent / "fixtures" / "registry-2.tar.xz"
VERSIONS = ["models:/pets-source/1", "models:/pets-target/1", "models:/pets-target/2"]


@pytest.fixture(scope="session")
def older_store(once) -> Path:
    def make(home: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(home, filter="data")

    return once("older-registry", make)


@pytest.fixture
def older(older_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of this test's copy of the store, whose artifacts are found where they are now."""
    workspace = Path(shutil.copytree(older_store, tmp_path / "workspace"))
    database.settle(workspace / "mlflow.db", workspace / "mlartifacts")
    uri = database.address(workspace / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(uri)
    return connect()


@pytest.fixture(scope="session")
def known(older_store: Path) -> dict:
    """By version, its digest and its answers to its stored example."""
    return json.loads((older_store / "answers.json").read_text())


@pytest.mark.parametrize("uri", VERSIONS)
def test_a_version_is_found_with_its_content(uri, older, known):
    assert registry.resolve(uri) == f"{uri}#sha256={known[uri]['digest'].removeprefix('sha256:')}"
    bundle = registry.fetch(uri)
    assert json.loads((bundle / "model.json").read_text())["format_version"] == 2
    assert ModelBundle.load(bundle).classes == ("cat", "dog", "owl")
    name, number = uri.removeprefix("models:/").split("/")
    evidence = registry.evidence(older, older.get_model_version(name, number))
    assert isinstance(evidence, Evidence)
    assert len(evidence.predictions.ids) == 60


@pytest.mark.parametrize("uri", VERSIONS)
def test_a_version_is_served_by_the_code_that_it_carries(uri, older, known):
    request = pd.DataFrame({"image": registry.stored_example(uri)})

    answers = mlflow.pyfunc.load_model(uri).predict(request)

    expected = pd.DataFrame(known[uri]["answers"])
    pd.testing.assert_frame_equal(answers, expected, check_dtype=False, rtol=1e-5)


def test_the_lineage_is_whole(older):
    family = lineage(older, "models:/pets-source/1")
    assert [(each["uri"], each["strategy"], each["aliases"]) for each in family["descendants"]] == [
        ("models:/pets-target/1", "full", ["champion"]),
        ("models:/pets-target/2", "partial", ["challenger"]),
    ]
    assert lineage(older, "models:/pets-target/2")["source"]["uri"] == "models:/pets-source/1"


def test_the_challenger_is_promoted_and_taken_back(older):
    promotion = promote(older, "pets-target", reason="better")
    assert (promotion.version, promotion.champion) == ("2", "1")
    assert {gate.name: gate.passed for gate in promotion.gates} == {
        "against_champion": True,
        "min_gain": True,
        "max_class_regression": True,
        "max_leaked": True,
        "lineage": True,
        "loads": True,
    }
    assert rollback(older, "pets-target").version == "1"

    history = read_history(older, "pets-target")

    assert history.champion == "1"
    assert [(change.kind, change.version, change.reason) for change in history.changes] == [
        ("promotion", "1", "the first"),
        ("promotion", "2", "better"),
        ("rollback", "1", None),
    ]
