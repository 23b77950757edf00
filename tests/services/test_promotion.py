"""Who becomes champion, told by the command line against the real servers, with real processes at the same time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.judging.evidence import Evidence
from headstart.metrics.predictions import Predictions
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.tracking.registration import register
from headstart.tracking.registry import Registered
from headstart.tracking.runs import Run, experiment_named
from headstart_pipelines.cli import main

pytestmark = pytest.mark.services

CLASSES = ("cat", "dog", "owl")
ROUNDS = 8
_EXPERIMENT = "pets"
_COUNT = [0]

# A process that promotes what it is told to, a line of arguments at a time, so that two start at the same moment.
WORKER = """
import contextlib, io, json, sys
import headstart.tracking.version_record, headstart.tracking.gate, headstart.tracking.promotion, mlflow
from headstart_pipelines.cli import main
print("ready", flush=True)
for line in sys.stdin:
    answer = io.StringIO()
    with contextlib.redirect_stderr(answer), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(json.loads(line))
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, answer.getvalue()]), flush=True)
"""

# A promotion that is killed right before its n-th write.
SUICIDE = """
import os, signal, sys
from mlflow import MlflowClient
from headstart_pipelines.cli import main
left = [int(sys.argv[1])]
def watched(original):
    def write(*arguments, **named):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return original(*arguments, **named)
    return write
for name in ("create_run", "log_dict", "set_registered_model_tag", "log_param", "set_registered_model_alias",
             "set_terminated", "set_model_version_tag"):
    setattr(MlflowClient, name, watched(getattr(MlflowClient, name)))
main(sys.argv[2:])
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def headstart(record, capsys) -> Callable[..., Answer]:
    """Runs the command line in this process."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return run


def _bundle(path: Path, seed: int, **provenance: Any) -> Path:
    torch.manual_seed(seed)
    common = {"data_digest": "sha256:1", "train_digest": "sha256:2", "head": "trained"}
    ModelBundle(
        convnet(classes=3, channels=1),
        "convnet",
        "image",
        Preprocessing(16, 1, (0.4,), (0.2,)),
        CLASSES,
        provenance=common | provenance,
    ).save(path)
    return path


def _evidence(path: Path, right: int, **changes: Any) -> Path:
    """Evidence from 60 test items, of which the first `right` are predicted rightly."""
    labels = np.arange(60) % 3
    predicted = np.where(np.arange(60) < right, labels, (labels + 1) % 3)
    probabilities = np.full((60, 3), 0.05)
    probabilities[np.arange(60), predicted] = 0.9
    fields: dict[str, Any] = {
        "metric": "accuracy",
        "figures": {"test/accuracy": right / 60, "gain/accuracy": 0.1, "gain/accuracy_low": 0.05},
        "sentence": "helped: full gains +0.100 accuracy over scratch.",
        "digests": {"data_digest": "sha256:1", "train_digest": "sha256:2", "test_digest": "sha256:3"},
        "dataset": "s3://nowhere/packed",
        "predictions": Predictions(np.array([f"{n:02}" for n in range(60)]), labels, probabilities, CLASSES),
        "trained_on": np.array(["train-1"]),
        "report": "<!doctype html><title>report</title>",
    }
    Evidence(**fields | changes).save(path)
    return path


@pytest.fixture(scope="session")
def pool(stack, tmp_path_factory) -> dict[str, Registered]:
    """Registered once: `weak` is right on 40 of 60 items, `good` and `rival` on 55, and `leaky` on 59 that it knew."""
    import mlflow

    from headstart.tracking.client import connect

    home = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in stack.environment.items():
            patch.setenv(variable, value)
        mlflow.set_tracking_uri(stack.uri)
        client = connect()
        experiment_id = experiment_named(client, _EXPERIMENT)

        def new_run(name: str) -> Run:
            return Run(client, client.create_run(experiment_id, run_name=name).info.run_id, experiment_id, None)

        source = register(
            new_run("pretrain"),
            _bundle(home / "source", 0, role="source", strategy="pretraining"),
            model="pool-source",
            evidence=_evidence(home / "source-evidence", 50),
        )
        leaked = {"trained_on": np.array(["00", "01"])}
        registered = {}
        for seed, (name, right, changes) in enumerate(
            [("weak", 40, {}), ("good", 55, {}), ("rival", 55, {}), ("leaky", 59, leaked)], start=1
        ):
            origin = {"source": source.reference, "source_digest": source.digest}
            bundle = _bundle(home / name, seed, role="target", strategy="full", **origin)
            evidence = _evidence(home / f"{name}-evidence", right, **changes)
            registered[name] = register(new_run(name), bundle, model="pool-target", evidence=evidence)
    return registered


@pytest.fixture
def model(record, pool) -> Callable[..., str]:
    """A new registered model with versions out of the pool, in this order; its name."""

    def make(*names: str) -> str:
        _COUNT[0] += 1
        model = f"pets{_COUNT[0]}-target"
        record.create_registered_model(model)
        for name in names:
            known = record.get_model_version("pool-target", pool[name].version)
            run_id = record.create_run(record.get_run(known.run_id).info.experiment_id, run_name=name).info.run_id
            logged = known.source.removeprefix("models:/")
            record.create_model_version(model, known.source, run_id=run_id, tags=known.tags, model_id=logged)
        record.set_registered_model_alias(model, "challenger", str(len(names)))
        return model

    return make


@pytest.fixture
def told(headstart) -> Callable[[str], list[dict[str, Any]]]:
    """What `headstart history --json` says, oldest first."""

    def history(model: str) -> list[dict[str, Any]]:
        return list(reversed(json.loads(headstart("history", model, "--json").out)))

    return history


def champion(record, model: str) -> str | None:
    alias = record.get_registered_model(model).aliases.get("champion")
    return str(alias) if alias else None


# The stories


def test_no_champion(headstart, record, model, told):
    name = model("good")
    answer = headstart("promote", name, "--reason", "the first")
    assert answer.code == 0, answer.err
    assert "there is no champion yet" in answer.out
    assert f"{name}: version 1 is the champion now; before, no version was." in answer.out
    assert champion(record, name) == "1"
    (entry,) = told(name)
    assert {"version", "previous", "at", "by", "reason", "forced", "gates"} <= entry.keys()
    assert (entry["version"], entry["previous"], entry["by"], entry["reason"], entry["forced"]) == (
        "1", None, "admin", "the first", False,
    )  # fmt: skip


def test_challenger_wins(headstart, record, model, told):
    name = model("weak", "good")
    headstart("promote", name, "--version", "1")
    answer = headstart("promote", name)
    assert answer.code == 0, answer.err
    assert champion(record, name) == "2"
    gates = {gate["name"]: gate for gate in told(name)[1]["gates"]}
    assert gates["against_champion"]["passed"] is True
    assert gates["against_champion"]["value"] > 0


def test_champion_wins(headstart, record, model, told):
    name = model("good", "weak")
    headstart("promote", name, "--version", "1")
    answer = headstart("promote", name)
    assert answer.code == 1
    assert "against_champion" in answer.err
    assert "version 1 stays champion" in answer.err
    assert champion(record, name) == "1"
    assert len(told(name)) == 1


def test_gates_refuse_and_each_is_shown_with_its_number(headstart, record, model, tmp_path):
    name = model("weak", "leaky")
    headstart("promote", name, "--version", "1")
    (tmp_path / "policy.yaml").write_text("min_metrics: {accuracy: 0.99}\nmin_gain_low: 0.01\nmax_size_mb: 0.001\n")
    answer = headstart("promote", name, "--policy", str(tmp_path / "policy.yaml"), "--json")
    assert answer.code == 1
    outcome = json.loads(answer.out)
    assert (outcome["promoted"], outcome["version"], outcome["previous"]) == (False, "2", "1")
    gates = {gate["name"]: (gate["passed"], gate["value"]) for gate in outcome["gates"]}
    assert gates["min_metrics.accuracy"] == (False, pytest.approx(59 / 60))
    assert gates["max_leaked"] == (False, 2)
    assert gates["max_size_mb"][0] is False
    assert gates["min_gain_low"] == (True, 0.05)
    assert gates["against_champion"][0] is True
    for closed in ("min_metrics.accuracy", "max_leaked", "max_size_mb"):
        assert closed in answer.err
    shown = headstart("promote", name, "--policy", str(tmp_path / "policy.yaml")).out
    assert [line.split()[:2] for line in shown.splitlines() if "max_leaked" in line] == [["✗", "max_leaked"]]
    assert champion(record, name) == "1"


def test_forced(headstart, record, model, told):
    name = model("good", "weak")
    headstart("promote", name, "--version", "1")
    assert headstart("promote", name, "--force").code == 2
    answer = headstart("promote", name, "--force", "--reason", "the good one is recalled")
    assert answer.code == 0, answer.err
    assert champion(record, name) == "2"
    entry = told(name)[1]
    assert (entry["forced"], entry["reason"]) == (True, "the good one is recalled")
    assert next(gate["name"] for gate in entry["gates"] if gate["passed"] is False) == "against_champion"
    assert "forced past against_champion" in " ".join(headstart("history", name).out.split())


def test_rolled_back(headstart, record, model, told):
    name = model("weak", "good")
    headstart("promote", name, "--version", "1")
    headstart("promote", name)
    answer = headstart("rollback", name, "--reason", "misses the new scanner")
    assert (answer.code, answer.out) == (0, f"{name}: version 1 is the champion again; before, version 2 was.\n")
    assert champion(record, name) == "1"
    assert [entry["version"] for entry in told(name)] == ["1", "2", "1"]
    again = headstart("rollback", name)
    assert again.code == 2
    assert "no earlier champion" in again.err


def test_a_champion_moved_by_hand_is_noticed_and_shown(headstart, record, model, told):
    name = model("weak", "good", "rival")
    headstart("promote", name, "--version", "2")
    record.set_registered_model_alias(name, "champion", "1")
    last = told(name)[-1]
    assert (last["version"], last["previous"], last["at"], last["by"]) == ("1", "2", None, None)
    assert "not made by headstart" in headstart("history", name).out
    assert headstart("promote", name).code == 0
    assert [entry["by"] for entry in told(name)] == ["admin", None, "admin"]


def test_what_is_champion_already_stays_so_and_a_model_without_challenger_is_named(headstart, record, model, told):
    name = model("good")
    headstart("promote", name)
    answer = headstart("promote", name)
    assert (answer.code, answer.out) == (0, f"{name} version 1 is the champion already.\n")
    assert len(told(name)) == 1
    name = model("good")
    record.delete_registered_model_alias(name, "challenger")
    assert f"There is no models:/{name}@challenger" in headstart("promote", name).err


# Several at once


@pytest.fixture
def workers(record) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have imported everything and wait."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    yield started
    for process in started:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_of_two_promotions_at_once_exactly_one_wins_and_the_other_is_told(record, model, workers, told):
    told_why = []
    for _ in range(ROUNDS):
        name = model("weak", "good", "rival")
        record.set_registered_model_alias(name, "champion", "1")
        for process, version in zip(workers, "23", strict=True):
            process.stdin.write(json.dumps(["promote", name, "--version", version]) + "\n")
        answers = [json.loads(process.stdout.readline()) for process in workers]
        assert sorted(code for code, _ in answers) == [0, 1], answers
        winner = "23"[[code for code, _ in answers].index(0)]
        assert champion(record, name) == winner
        assert [(entry["kind"], entry["version"]) for entry in told(name)] == [
            ("outside", "1"), ("promotion", winner),
        ]  # fmt: skip
        told_why += [error for code, error in answers if code]
    # The later one may as well have come late enough to be judged against the winner, which it does not beat.
    for error in told_why:
        assert "Meanwhile" in error or "against_champion" in error
    assert any("Meanwhile" in error for error in told_why)


def test_two_first_promotions_at_once_have_one_order(record, model, workers, told):
    for _ in range(ROUNDS // 2):
        name = model("good", "rival")
        for process, version in zip(workers, "12", strict=True):
            process.stdin.write(json.dumps(["promote", name, "--version", version]) + "\n")
        answers = [json.loads(process.stdout.readline()) for process in workers]
        assert sorted(code for code, _ in answers) == [0, 1], answers
        winner = "12"[[code for code, _ in answers].index(0)]
        assert champion(record, name) == winner
        assert [entry["version"] for entry in told(name)] == [winner]


@pytest.mark.parametrize("step", range(3, 7))
def test_a_promotion_killed_between_two_requests_took_place_or_did_not(record, model, told, headstart, step):
    name = model("weak", "good")
    headstart("promote", name, "--version", "1")
    killed = subprocess.run(
        [sys.executable, "-c", SUICIDE, str(step), "promote", name], stdout=subprocess.DEVNULL, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    happened = [entry["version"] for entry in told(name)]
    assert happened == ["1", "2"][: 2 if step > 4 else 1]
    assert champion(record, name) == happened[-1]
    assert headstart("promote", name).code == 0
    assert [(entry["version"], entry["kind"]) for entry in told(name)] == [("1", "promotion"), ("2", "promotion")]
    assert champion(record, name) == "2"


# Who may


@pytest.fixture
def as_user(stack, record, monkeypatch):
    """Becomes a new user of the server who may edit the experiment and the model, or only read them."""
    from mlflow.server.auth.client import AuthServiceClient

    def become(name: str, *, model: str, may_edit: bool) -> None:
        auth = AuthServiceClient(stack.uri)
        auth.create_user(name, "a-long-enough-password")
        if may_edit:
            experiment = record.get_experiment_by_name(_EXPERIMENT)
            auth.grant_user_permission(name, "experiment", experiment.experiment_id, "EDIT")
            auth.grant_user_permission(name, "registered_model", model, "EDIT")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-long-enough-password")

    return become


def test_who_may_edit_may_promote_and_is_named(record, model, headstart, as_user):
    name = model("good")
    as_user("ana", model=name, may_edit=True)
    answer = headstart("promote", name)
    assert answer.code == 0, answer.err
    (entry,) = json.loads(headstart("history", name, "--json").out)
    assert entry["by"] == "ana"


def test_who_may_only_read_sees_the_history_and_changes_nothing(record, model, headstart, as_user):
    name = model("weak", "good")
    headstart("promote", name, "--version", "1")
    as_user("ben", model=name, may_edit=False)
    answer = headstart("promote", name)
    assert answer.code == 1
    assert "Permission denied" in answer.err
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] not in answer.err
    assert [entry["version"] for entry in json.loads(headstart("history", name, "--json").out)] == ["1"]
