"""A recipe becomes a run: what is uploaded, what is sent, and what is printed."""

import json
import re

import pytest
import yaml

from headstart.modalities import MODALITIES
from headstart.recipe.recipe import Recipe
from headstart.version import CODE_VARIABLE
from headstart_pipelines.cluster import releases, submission
from tests.pipelines.cluster.conftest import IMAGE, PROFILE, ROOT
from tests.pipelines.cluster.kfp_server import Fault


def test_a_recipe_is_submitted_and_its_pages_are_told(kfp, submit):
    answer = submit()

    assert answer.code == 0, answer.err
    run = kfp.runs[0]
    assert re.search(rf"^run +{run['display_name']}  {run['run_id']}$", answer.out, re.MULTILINE)
    assert re.search(rf"^KFP page +{kfp.host}/#/runs/details/{run['run_id']}$", answer.out, re.MULTILINE)


def test_the_parameters_of_a_run_are_the_sections_of_its_recipe(kfp, submit):
    submit("--set", "target.data.labels_per_class=5")

    sent = kfp.runs[0]["runtime_config"]["parameters"]
    assert sent["target_data"]["labels_per_class"] == 5
    assert sent["target_data"]["uri"] == "s3://data/digits"
    assert sent["target_data"]["fingerprint"].startswith("etag:")
    recipe = Recipe.of_sections(sent)
    assert [strategy.name for strategy in recipe.strategies] == ["zero", "full"]


def test_the_experiment_is_called_as_the_recipe_and_made_once(kfp, submit):
    submit()
    submit()
    submit(name="other")

    assert [each["display_name"] for each in kfp.experiments] == ["digits", "other"]
    assert [run["experiment_id"] for run in kfp.runs[:2]] == [kfp.experiments[0]["experiment_id"]] * 2


def test_what_is_submitted_again_is_uploaded_once(kfp, submit):
    first, second = submit(), submit()

    assert "(uploaded)" in first.out
    assert "(there already)" in second.out
    assert len(kfp.called("upload_pipeline_version")) == len(kfp.called("pipeline_service_create_pipeline")) == 1
    assert len({run["pipeline_version_reference"]["pipeline_version_id"] for run in kfp.runs}) == 1


def test_another_package_becomes_another_version_of_the_same_pipeline(kfp, submit):
    submit()
    submit("--image", IMAGE[:-1] + "b")
    submit()

    assert [each["display_name"] for each in kfp.pipelines] == ["headstart-transfer"]
    assert len(kfp.versions) == len({each["display_name"] for each in kfp.versions}) == 2
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in kfp.runs]
    assert used[0] == used[2] != used[1]


def test_a_version_is_found_among_more_than_a_page_of_them(kfp, submit):
    kfp.page_size = 1
    submit()
    kfp.pipelines.insert(0, {"display_name": "other", "pipeline_id": "1"})
    # A server that does not filter.
    kfp._page = lambda name, entries, query: type(kfp)._page(
        kfp, name, entries, {key: value for key, value in query.items() if key != "filter"}
    )

    assert "(there already)" in submit().out


def test_a_pipeline_that_somebody_made_meanwhile_is_taken(kfp, submit, monkeypatch):
    found = kfp.pipeline_service_list_pipelines
    answers = iter([{}])
    monkeypatch.setattr(kfp, "pipeline_service_list_pipelines", lambda **query: next(answers, None) or found(**query))
    kfp.pipelines.append({"display_name": "headstart-transfer", "pipeline_id": "theirs"})

    assert submit().code == 0
    assert kfp.versions[0]["pipeline_id"] == "theirs"


def test_steps_run_in_the_image_that_was_named_with_what_the_profile_gives(kfp, submit):
    submit()

    package = kfp.versions[0]["pipeline_spec"]
    containers = [each["container"] for each in package["pipeline_spec"]["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {IMAGE}
    assert all({"name": CODE_VARIABLE, "value": IMAGE.partition("@")[2]} in each["env"] for each in containers)
    assert package["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert kfp.runs[0]["service_account"] == "headstart-step"


@pytest.mark.parametrize("known", [True, False])
def test_data_are_prepared_anew_where_their_content_is_unknown_from_here(kfp, submit, monkeypatch, known):
    monkeypatch.setattr("headstart_pipelines.resolve.fingerprint", lambda uri: "etag:1" if known else None)

    submit(target=None)

    components = kfp.versions[0]["pipeline_spec"]["pipeline_spec"]["components"]
    tasks = components["comp-exit-handler-1"]["dag"]["tasks"]
    assert bool(tasks["prepare-data"]["cachingOptions"].get("enableCache")) is known
    assert ("fingerprint" in kfp.runs[0]["runtime_config"]["parameters"]["source_data"]) is known


@pytest.mark.parametrize(("pipeline", "sections"), [
    ("pretrain", {"target": None}),
    ("finetune", {"source": {"candidates": ["torchvision://resnet18/IMAGENET1K_V1"]}}),
])  # fmt: skip
def test_each_kind_of_recipe_is_submitted_to_its_pipeline(kfp, submit, pipeline, sections):
    assert submit(**sections).code == 0
    assert kfp.pipelines[0]["display_name"] == f"headstart-{pipeline}"


def test_json_is_one_object_and_nothing_else(kfp, submit):
    answer = submit("--json")

    submission = json.loads(answer.out)
    run = kfp.runs[0]
    assert (submission["run_id"], submission["experiment"]) == (run["run_id"], "digits")
    assert submission["page"] == f"{kfp.host}/#/runs/details/{run['run_id']}"
    assert submission["uploaded"] is True


def test_the_page_is_where_kfps_own_variable_says(kfp, submit, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.com/pipeline/")

    assert "https://kubeflow.example.com/pipeline/#/runs/details/" in submit().out


@pytest.mark.parametrize("account", [None, "headstart-step"])
def test_the_pods_are_the_service_account_that_the_profile_names(kfp, cli, recipe, tmp_path, account):
    values = {**yaml.safe_load(PROFILE.read_text()), "service_account": account}
    profile = tmp_path / "own.yaml"
    profile.write_text(yaml.safe_dump(values))

    assert cli("submit", recipe(target=None), "--profile", profile, "--image", IMAGE).code == 0
    assert kfp.runs[0].get("service_account") == account


# MLflow's plugin


@pytest.fixture
def with_plugin(cli, recipe, tmp_path):
    """Submits a recipe with a profile that says that KFP's MLflow plugin is used."""

    def call():
        profile = tmp_path / "own.yaml"
        profile.write_text(yaml.safe_dump({**yaml.safe_load(PROFILE.read_text()), "mlflow_plugin": True}))
        return cli("submit", recipe(), "--profile", profile, "--image", IMAGE)

    return call


@pytest.mark.parametrize("release", ["2.17.0", "2.18.1", "v3.0.0"])
def test_the_plugin_is_switched_off_unless_the_profile_says_that_it_is_used(kfp, submit, with_plugin, release):
    kfp.release = release

    submit()
    with_plugin()

    told = [each.body["plugins_input"] for each in kfp.called("run_service_create_run")]
    assert told == [{"mlflow": {"disabled": True}}, {"mlflow": {"experiment_name": "digits"}}]


def test_the_run_that_the_plugin_has_opened_is_the_mlflow_page(kfp, with_plugin):
    answer = with_plugin()

    run = kfp.runs[0]
    assert re.search(rf"^MLflow page +http://mlflow.example.com/.*/runs/{run['run_id'][:8]}$", answer.out, re.MULTILINE)


@pytest.mark.parametrize("release", ["2.15.2", "2.16.0"])
def test_the_plugin_is_told_nothing_where_the_release_would_refuse_it(kfp, submit, release):
    kfp.release = release

    assert submit().code == 0
    assert ["plugins_input" in each.body for each in kfp.called("run_service_create_run")] == [False]


def test_a_server_that_does_not_say_its_release_is_tried(kfp, submit):
    kfp.release = "master-old"

    assert submit().code == 0
    assert ["plugins_input" in each.body for each in kfp.called("run_service_create_run")] == [True, False]
    assert len(kfp.runs) == 1


def test_a_plugin_that_nobody_has_set_up_is_not_heard_of(kfp, submit):
    kfp.plugin_fails = True

    answer = submit()

    assert answer.code == 0
    assert "plugin" not in answer.out + answer.err


def test_what_kept_the_plugin_from_its_work_is_told_and_the_run_goes_on(kfp, with_plugin):
    kfp.plugin_fails = True

    answer = with_plugin()

    assert answer.code == 0
    assert "MLflow's plugin: MLflow did not answer" in answer.out
    assert len(kfp.runs) == 1


def test_a_server_may_take_longer_to_start_a_run_than_for_anything_else(kfp, submit, monkeypatch):
    monkeypatch.setattr("headstart_pipelines.cluster.submission._CREATION_SECONDS", 0.4)
    kfp.faults.append(Fault("run_service_create_run", "slow"))

    answer = submit("--timeout", "0.3")

    assert "did not answer within 0.4 seconds" in answer.err
    assert "may have been started all the same" in answer.err


def test_kfps_plugin_has_ended_its_work_before_the_answer_is_given_up():
    # It has a minute for its work and one for trying again.
    assert submission._CREATION_SECONDS > 120


READ = {
    "image": ("convnet", {"size": 16}),
    "audio": ("convnet", {"seconds": 1, "mels": 32}),
    "waveform": ("transformer_sound", {"seconds": 2, "rate": 8000}),
    "text": ("transformer_tiny", {"length": 64, "encoding": "latin-1"}),
    "dna": ("convnet_sequence", {"length": 200, "k": 3}),
    "protein": ("convnet_sequence", {"length": 100}),
}


def test_every_kind_of_data_is_submitted_to_the_same_package(kfp, submit):
    assert set(READ) == set(MODALITIES)
    for name, (architecture, given) in READ.items():
        data = {"uri": f"s3://data/{name}", "input": given}
        source = {"data": data, "pretraining": {"architecture": architecture}}

        answer = submit(modality=name, source=source, target={"data": {**data, "labels_per_class": 5}})

        assert answer.code == 0, answer.err
        parameters = kfp.runs[-1]["runtime_config"]["parameters"]
        assert parameters["modality"] == name
        assert parameters["source_data"]["input"] == parameters["target_data"]["input"]
        assert given.items() <= parameters["target_data"]["input"].items()
    assert len(kfp.versions) == 1


# Releases


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("2.17.0", None),
        ("2.18.1", "This server is Kubeflow Pipelines 2.18.1; headstart was tested with 2.17.0."),
        ("v2.16.1", "This server is Kubeflow Pipelines 2.16.1; headstart was tested with 2.17.0."),
        ("unknown", None),
    ],
)
def test_a_server_of_another_release_than_the_tested_one_is_told_in_a_line(kfp, submit, release, said):
    kfp.release = release

    lines = submit().out.splitlines()

    assert [line for line in lines if "tested with" in line] == ([said] if said else [])


def test_the_documentation_names_the_releases_that_were_tested():
    readme = (ROOT / "infra" / "README.md").read_text()
    assert f"| Kubeflow Pipelines | {releases.KUBEFLOW_PIPELINES} |" in readme
    assert f"| Kueue | {releases.KUEUE} |" in readme
    assert f"| Kubeflow Trainer | {releases.TRAINER} |" in readme
    commands = re.findall(r"(?:ref=v?|kueue/releases/download/v)(\d+\.\d+\.\d+)", readme)
    assert set(commands) == {releases.KUBEFLOW_PIPELINES, releases.KUEUE, releases.TRAINER}


# Addresses


def test_without_the_plugin_mlflows_address_is_the_environments(kfp, submit, monkeypatch):
    kfp.plugin = False
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://someone:hidden-word@mlflow.example.com")

    answer = submit()

    assert re.search(r"^MLflow page +https://mlflow.example.com$", answer.out, re.MULTILINE)
    assert "hidden-word" not in answer.out + answer.err


def test_without_the_plugin_mlflows_address_is_the_profiles(kfp, cli, recipe, tmp_path):
    kfp.plugin = False
    values = yaml.safe_load(PROFILE.read_text())
    values["environment"] = {"values": {"MLFLOW_TRACKING_URI": "http://mlflow.headstart.svc:5000"}}
    profile = tmp_path / "own.yaml"
    profile.write_text(yaml.safe_dump(values))

    answer = cli("submit", recipe(), "--profile", profile, "--image", IMAGE)

    assert re.search(r"^MLflow page +http://mlflow.headstart.svc:5000$", answer.out, re.MULTILINE)


# Refused before anything is sent


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "target.data.labels_per_clas=5"], "labels_per_clas: unknown key; did you mean labels_per_class?"),
        (["--image", "headstart:latest"], "without a digest"),
        (["--profile", "missing.yaml"], "There is no profile at missing.yaml"),
        (["--set", "target.data.uri=data/digits"], "target.data: 'data/digits' is on this machine, where no pod sees"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_sent(kfp, submit, options, said):
    answer = submit(*options)

    assert answer.code == 2
    assert said in answer.err
    assert kfp.requests == []


def test_a_profile_is_asked_for(kfp, cli, recipe):
    answer = cli("submit", recipe(), "--image", IMAGE)

    assert answer.code == 2
    assert answer.err.startswith("headstart: Which profile?")


def test_an_image_is_asked_for(kfp, cli, recipe):
    answer = cli("submit", recipe(), "--profile", PROFILE)

    assert answer.code == 2
    assert answer.err.startswith("headstart: Which image?")


def test_a_tag_is_taken_where_that_is_allowed(kfp, submit):
    assert submit("--image", "headstart:latest", "--allow-tag").code == 0


def test_a_recipe_whose_steps_kubeflow_will_lose_sight_of_is_submitted_with_a_warning(kfp, submit):
    many = submit(strategies=[{"name": f"full-{number}", "transfer": "full"} for number in range(12)])
    few = submit()

    assert (many.code, len(kfp.runs)) == (0, 2), many.err
    assert re.search(r"The workflow of this run will grow to \d\.\d MiB", many.out)
    assert "will grow to" not in few.out
