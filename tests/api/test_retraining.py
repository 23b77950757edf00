"""`monitor --retrain`: the recipe of a version that is no longer as before is run again, and the gates decide."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

import headstart as hs
from headstart.api.record import opened
from headstart.recipe.recipe import Recipe
from headstart.recipe.registered import recipe_of
from headstart_pipelines.cli import main
from headstart_pipelines.local import Outcome

MODEL = "models:/digits-target/1"
CRON_JOB = Path(__file__).parents[2] / "infra" / "components" / "retraining" / "retraining.yaml"


@pytest.fixture
def monitor(own, capsys):
    """Monitors the target of `own`; its exit status and its JSON."""

    def call(data: Path, *options: str) -> tuple[int, dict]:
        with pytest.raises(SystemExit) as ended:
            main(["monitor", MODEL, str(data), *options, "--json", "--workspace", str(own.workspace)])
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out or "{}")

    return call


@dataclass
class Runs:
    """Stands for runs of recipes, each of which registers the version `registers`."""

    log: Path
    recipes: list[Recipe] = field(default_factory=list)
    registers: str = MODEL

    def carry_out(self, recipe, options, console, *, image):
        self.recipes.append(recipe)
        return Outcome("run", (self.registers,), (), self.log, None, None), "page"


@pytest.fixture
def runs(monkeypatch, own):
    """The recipes that are run."""
    runs = Runs(own.log)
    monkeypatch.setattr("headstart_pipelines.commands.retraining.carry_out", runs.carry_out)
    return runs


@pytest.fixture
def grown(monkeypatch):
    """As if new samples lay beside those that the version was trained on."""
    monkeypatch.setattr("headstart.recipe.registered.fingerprint", lambda uri: "stat:more")


def test_the_recipe_of_a_version_is_that_of_its_run_with_its_source_pinned(own):
    with opened(own.workspace) as client:
        name, recipe = recipe_of(client, "models:/digits-target")

    assert (name, recipe.name, recipe.pipeline) == (MODEL, "digits", "finetune")
    assert [each.name for each in recipe.strategies] == ["full"]
    assert recipe.source.candidates[0].startswith("models:/digits-source/1#sha256=")
    assert recipe.target.data.labels_per_class == 2


def noted(own) -> str:
    """What the page of the last look at the model says."""
    with opened(own.workspace) as client:
        experiment = client.get_experiment_by_name("monitoring").experiment_id
        return client.search_runs([experiment])[0].data.tags["mlflow.note.content"]


def test_unless_as_before_it_is_run_and_what_comes_of_it_goes_through_the_gates(own, monitor, inverted, runs, grown):
    code, said = monitor(inverted, "--retrain", "--promote", "--fail")

    assert code == 1, "it had drifted"
    assert [recipe.pipeline for recipe in runs.recipes] == ["finetune"]
    assert said["retrained"]["registered"] == [MODEL]
    assert said["promotion"]["promoted"] is True
    assert said["promotion"]["reason"] == f"{inverted} was not as before"
    assert any(gate["name"] == "loads" for gate in said["promotion"]["gates"])
    assert noted(own).endswith(f"{MODEL} was trained again: {MODEL} is the champion now.")


def test_a_gate_that_refuses_what_comes_of_it_fails_the_command(own, monitor, inverted, runs, grown):
    hs.promote("digits-target", version=1, workspace=own.workspace)
    with opened(own.workspace) as client:
        copy = client.copy_model_version(MODEL, "digits-target")
    runs.registers = f"models:/digits-target/{copy.version}"
    code, said = monitor(inverted, "--retrain", "--promote")

    assert code == 1
    assert said["promotion"]["promoted"] is False
    assert "did not become the champion: refused by " in noted(own)


def test_as_before_nothing_is_run(monitor, unlabelled, runs, grown):
    code, said = monitor(unlabelled, "--retrain", "--promote", "--fail")

    assert code == 0
    assert runs.recipes == []
    assert "retrained" not in said


def test_data_that_have_not_changed_would_give_the_same_model_and_are_not_trained_on_again(
    own, monitor, inverted, runs
):
    code, said = monitor(inverted, "--retrain", "--promote")

    assert (code, runs.recipes) == (0, [])
    assert (said["state"], said["retrained"], said["promotion"]) == ("drifted", None, None)
    assert noted(own).endswith(f"{MODEL} is not trained again, as its data are what they were.")


def test_a_recipe_that_fails_is_noted_where_the_drift_is(own, monitor, inverted, grown, monkeypatch):
    def failing(*_, **__):
        raise hs.HeadstartError("finetune full: out of memory.")

    monkeypatch.setattr("headstart_pipelines.commands.retraining.carry_out", failing)
    assert monitor(inverted, "--retrain", "--promote") == (1, {})
    assert noted(own).endswith(f"{MODEL} could not be trained again: finetune full: out of memory.")


def test_promotion_alone_and_a_version_without_a_recipe_are_refused(monitor, unlabelled, own, monkeypatch):
    assert monitor(unlabelled, "--promote") == (2, {})
    monkeypatch.setattr("headstart.recipe.registered.stored_recipe", lambda client, version: None)
    with opened(own.workspace) as client, pytest.raises(hs.InputError, match="keeps no recipe"):
        recipe_of(client, MODEL)


def test_the_command_of_the_cron_job_as_printed_trains_again_and_asks_the_gates(own, inverted, runs, grown, capsys):
    hs.promote("digits-target", version=1, workspace=own.workspace)
    capsys.readouterr()
    (job,) = (each for each in yaml.safe_load_all(CRON_JOB.read_text()) if each["kind"] == "CronJob")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    here = {"s3://data/new": str(inverted), "--workspace=/tmp/headstart": f"--workspace={own.workspace}"}
    assert here.keys() <= set(container["args"])
    with pytest.raises(SystemExit) as ended:
        main([here.get(each, each) for each in container["args"]])

    assert container["command"] == ["headstart"]
    assert not ended.value.code, capsys.readouterr().err
    assert [each.name for each in runs.recipes] == ["digits"]
    assert "drifted" in capsys.readouterr().out


@pytest.mark.slow
def test_the_recipe_that_is_kept_can_be_run(own, inverted, grown, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["monitor", MODEL, str(inverted), "--retrain", "-q", "--json", "--workspace", str(own.workspace)])

    assert not ended.value.code
    (version,) = json.loads(capsys.readouterr().out)["retrained"]["registered"]
    assert version.startswith("models:/digits-target/")
