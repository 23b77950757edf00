"""A registered model is monitored on a cluster: once or by the clock, by pods that reach nothing but the registry."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from headstart.recipe import registered
from headstart.tracking import monitoring, runs
from headstart.tracking.client import connect
from headstart_pipelines.catalog import compile_pipeline
from headstart_pipelines.placement import Placement
from headstart_pipelines.profile import load_profile
from tests.pipelines.cluster.backend import Pods
from tests.pipelines.cluster.conftest import IMAGE, PROFILE

MODEL = "models:/digits-target@champion"
RUN_ID = "cdd7cc45-2b3d-4b0e-a45c-0a6a8d7e4e73"
FOUND = "drifted: a classifier tells 200 new samples from those of the test with an area under the curve of 0.9"


@pytest.fixture
def monitor(cli):
    """Monitors a model on the cluster, unless other options come after those of the profile and image."""

    def call(*options, model=MODEL, data="s3://data/new"):
        return cli("monitor", model, data, "--profile", PROFILE, "--image", IMAGE, *options)

    return call


# What is sent


def test_a_comparison_is_a_run_of_the_experiment_monitoring(kfp, monitor):
    answer = monitor("--fail", "--tolerance", "0.2", "--json")

    assert answer.code == 0, answer.err
    (run,) = kfp.runs
    assert run["runtime_config"]["parameters"] == {
        "model": MODEL, "data": "s3://data/new", "tolerance": 0.2, "fail": True
    }  # fmt: skip
    assert json.loads(answer.out)["page"] == f"{kfp.host}/#/runs/details/{run['run_id']}"
    assert [each["display_name"] for each in kfp.experiments] == ["monitoring"]
    assert [each["display_name"] for each in kfp.pipelines] == ["headstart-monitor"]


def test_samples_and_aliases_are_those_of_the_moment_so_that_nothing_is_reused(kfp, monitor):
    monitor()

    tasks = kfp.versions[0]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert tasks.keys() == {"monitor", "alarm"}
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())


def test_an_alarm_is_no_failure_that_another_attempt_could_mend(kfp, monitor):
    monitor()

    tasks = kfp.versions[0]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert tasks["monitor"]["retryPolicy"]["maxRetryCount"] == 2
    assert "retryPolicy" not in tasks["alarm"]


def test_kfps_plugin_opens_no_run_around_a_comparison(kfp, monitor, tmp_path):
    profile = tmp_path / "plugin.yaml"
    profile.write_text(PROFILE.read_text() + "\nmlflow_plugin: true\n")
    monitor("--profile", profile)

    assert kfp.runs[0]["plugins_input"]["mlflow"] == {"disabled": True}


def test_by_the_clock_it_is_a_schedule_named_after_the_model(kfp, monitor, cli):
    answer = monitor("--cron", "0 6 * * *", "--timezone", "Asia/Tokyo")

    assert answer.code == 0, answer.err
    (made,) = kfp.recurring
    assert (made["display_name"], made["trigger"]) == (
        "monitor-digits-target", {"cron_schedule": {"cron": "0 0 21 * * *"}}
    )  # fmt: skip
    assert made["runtime_config"]["parameters"]["data"] == "s3://data/new"
    assert kfp.runs == []
    (row,) = json.loads(cli("schedule", "--list", "--json").out)
    assert row["schedule"] == "monitor-digits-target"


def test_data_may_lie_on_a_volume_of_the_profile(kfp, monitor, tmp_path):
    profile = tmp_path / "volume.yaml"
    light = "light:\n  volumes: [{claim: headstart-data, path: /data}]"
    profile.write_text(PROFILE.read_text().replace("\nlight:", f"\n{light}"))
    answer = monitor("--profile", profile, data="/data/new")

    assert answer.code == 0, answer.err
    assert kfp.runs[0]["runtime_config"]["parameters"]["data"] == "/data/new"


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ([], {"data": "photos/new"}, "'photos/new' is on this machine, where no pod sees it"),
        ([], {"model": "torchvision://resnet18/IMAGENET1K_V1"}, "is no registered model"),
        (["--tolerance", "0.7"], {}, "The tolerance is 0.7"),
        (["--reference", "packed"], {}, "--reference is a folder of this machine"),
        (["--cron", "0 6 * * *", "--wait"], {}, "--cron starts none now"),
        (["--cron", "0 6 * * *", "--retrain"], {}, "--retrain starts a second run"),
        (["--wait", "--retrain", "--json"], {}, "--json is about one run"),
        (["--promote"], {}, "--promote asks the gates about what --retrain delivers"),
        (["--cron", "every day"], {}, "--cron 'every day' is not understood"),
        (["--name", "daily"], {}, "--timezone and --name are about a schedule"),
    ],
)
def test_what_a_pod_cannot_do_is_refused_before_anything_is_sent(kfp, monitor, options, given, said):
    answer = monitor(*options, **given)

    assert answer.code == 2
    assert said in answer.err
    assert kfp.requests == []


def test_the_host_alone_asks_for_a_profile_and_the_variable_alone_means_nothing(kfp, cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_KFP_HOST", kfp.host)

    assert "Which profile?" in cli("monitor", MODEL, "s3://data/new", "--host", kfp.host).err
    assert "no record" in cli("monitor", MODEL, tmp_path, "--workspace", tmp_path).err.lower()
    assert "--wait has a meaning on a cluster only" in cli("monitor", MODEL, tmp_path, "--wait").err
    assert kfp.requests == []


def test_a_version_with_nothing_to_compare_with_is_refused_where_the_record_is_reached(kfp, own, monitor, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own.workspace / 'mlflow.db'}")
    assert "models:/other" in monitor(model="other").err

    found = monitoring.tested_version

    def older(client, uri):
        version, evidence = found(client, uri)
        return version, replace(evidence, features=None)

    monkeypatch.setattr("headstart_pipelines.cluster.monitoring.tested_version", older)
    answer = monitor(model="digits-target")
    assert answer.code == 2
    assert "models:/digits-target/1 keeps no features of its test samples" in answer.err
    assert kfp.requests == []


# What pods do


@pytest.fixture
def pods(own, tmp_path, monkeypatch):
    """Runs the package of the profile as the backend does, on the record of `own`; the packed data set is elsewhere."""
    address = f"sqlite:///{own.workspace / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    compile_pipeline("monitor", tmp_path / "monitor.yaml", Placement(image=IMAGE, profile=load_profile(PROFILE)))

    def run(data: Path, *, fail: bool) -> tuple[Pods, str]:
        environment = {"MLFLOW_TRACKING_URI": address, "OMP_NUM_THREADS": "1"}
        pods = Pods((tmp_path / "monitor.yaml").read_text(), tmp_path / f"pods-{fail}", environment, RUN_ID)
        given = {"model": "models:/digits-target", "data": str(data), "tolerance": 0.1, "fail": fail}
        return pods, pods.run(given)

    return run


@pytest.mark.slow
def test_a_pod_says_and_records_what_it_found_and_the_run_fails_where_it_was_asked_to(pods, inverted):
    asked, failed = pods(inverted, fail=True)
    merely, succeeded = pods(inverted, fail=False)

    assert (failed, succeeded) == ("FAILED", "SUCCEEDED")
    assert asked.failed.keys() == {"alarm"}
    assert "The new samples are not as before: drifted" in asked.failed["alarm"]
    assert asked.outputs["monitor"].parameters == merely.outputs["monitor"].parameters == {"Output": "drifted"}
    (shown,) = asked.outputs["monitor"].artifacts["metrics"]
    assert (shown["metadata"]["state"], shown["metadata"]["samples"]) == ("drifted", 200)
    assert json.loads(Path(shown["uri"]).read_text())["state"] == "drifted"
    client = connect()
    runs = client.search_runs([client.get_experiment_by_name("monitoring").experiment_id])
    assert {(run.info.status, run.data.params["state"], run.data.params["pipeline_run"]) for run in runs} == {
        ("FINISHED", "drifted", RUN_ID)
    }
    assert (monitoring.look_found(client, RUN_ID)[1], monitoring.look_found(client, "another")) == ("drifted", None)


# Following


@pytest.mark.parametrize("fails", [None, "alarm"])
def test_who_waits_is_told_what_was_found_also_where_the_run_fails_by_it(kfp, monitor, fails):
    kfp.fails = fails
    kfp.log = f"a warning\n{FOUND}\n"
    answer = monitor("--wait", "--fail")

    assert answer.code == bool(fails)
    assert " ".join(answer.out.split()).endswith(FOUND)
    assert ("failed in 'alarm'" in answer.err) is bool(fails)


# Training again


def look_at(client) -> str:
    """The run of a look that was recorded, the same one each time."""
    experiment = runs.experiment_named(client, "monitoring")
    found = client.search_runs([experiment]) or [client.create_run(experiment, tags={"headstart.sentence": FOUND})]
    return found[0].info.run_id


@pytest.fixture
def drifted(monkeypatch, own):
    """The record says so of every run, and the version's recipe has its data in S3."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own.workspace / 'mlflow.db'}")
    monkeypatch.setattr(monitoring, "look_found", lambda client, run_id: (look_at(client), "drifted"))
    found = registered.recipe_of

    def in_s3(client, uri):
        name, recipe = found(client, uri)
        data = recipe.target.data.model_copy(update={"uri": "s3://data/digits"})
        return name, recipe.model_copy(update={"target": recipe.target.model_copy(update={"data": data})})

    monkeypatch.setattr(registered, "recipe_of", in_s3)
    monkeypatch.setattr(registered, "fingerprint", lambda uri: "etag:more")


@pytest.mark.parametrize("fails", [None, "alarm"])
def test_the_recipe_of_a_version_is_submitted_unless_it_is_as_before(kfp, monitor, drifted, fails):
    kfp.fails = fails
    answer = monitor("--wait", "--retrain", "--fail", model="digits-target")

    assert answer.code == bool(fails), answer.err
    assert [each["display_name"] for each in kfp.pipelines] == ["headstart-monitor", "headstart-finetune"]
    sent = kfp.runs[1]["runtime_config"]["parameters"]
    assert (sent["name"], sent["target_data"]["uri"]) == ("digits", "s3://data/digits")
    note = connect().get_run(look_at(connect())).data.tags["mlflow.note.content"]
    assert note.startswith(FOUND)
    assert note.endswith(f"models:/digits-target/1 was trained again by the run {kfp.runs[1]['display_name']}.")


def test_as_before_nothing_is_submitted_and_an_unknown_result_is_an_error(kfp, monitor, drifted, monkeypatch):
    monkeypatch.setattr(monitoring, "look_found", lambda client, run_id: (look_at(client), "as before"))
    assert monitor("--wait", "--retrain", model="digits-target").code == 0
    monkeypatch.setattr(monitoring, "look_found", lambda client, run_id: None)
    answer = monitor("--wait", "--retrain", model="digits-target")

    assert answer.code == 1
    assert "set MLFLOW_TRACKING_URI to the server" in answer.err
    assert {each["display_name"] for each in kfp.pipelines} == {"headstart-monitor"}


def test_a_recipe_whose_data_no_pod_sees_is_refused_before_anything_is_compared(kfp, own, monitor, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own.workspace / 'mlflow.db'}")
    answer = monitor("--wait", "--retrain", model="digits-target")

    assert answer.code == 2
    assert "target.data: '" in answer.err
    assert "is on this machine, where no pod sees it" in answer.err
    assert kfp.requests == []
