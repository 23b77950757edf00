"""The commands of infra/README.md for one machine, all of them, against the stand-ins for a cluster and KFP's API."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.training.engine import CHECKPOINT_VARIABLE
from headstart_pipelines import cli
from headstart_pipelines.profile import load_profile
from tests.cluster import __main__ as program
from tests.cluster import journey as journeys
from tests.cluster.journey import Journey, NotKept, NotPossible, copy_project
from tests.cluster.promises import IMAGES, INSTALLED, PROMISES, TAKING_AWAY, promise_of
from tests.cluster.readme import Step, steps
from tests.cluster.shell import Outcome, Shell
from tests.cluster.stand_in import Answer, Cluster, programs
from tests.commands import answer_of

DIGEST = "registry.example.com/headstart@sha256:" + "a" * 64

pytestmark = pytest.mark.skipif(
    not shutil.which("kubectl") and os.environ.get("CI") != "true",
    reason="kubectl is not installed (Debian: kubernetes-client), which renders the manifests",
)


# The programs of the journey


_RECORD = {"compare": "full-l2sp 0.9\n", "promote": "digits-target/1 is champion\n", "lineage": "digits-source/1\n"}


class Commands:
    """headstart, with the stand-in for KFP's API. There is no record: commands that read it are parsed and no more."""

    def __init__(self, kfp) -> None:
        self._kfp = kfp
        kfp.log = (
            "pretraining 6/6 done before\npretraining goes on from its checkpoint: epoch 4\n"
            "TrainJob headstart-0a1b started on 2 nodes\n"
        )
        self.done: list[str] = []

    def headstart(self, arguments: list[str]) -> Answer:
        self.done.append(arguments[0])
        if arguments[0] in _RECORD:
            assert os.environ["MLFLOW_TRACKING_PASSWORD"]
            cli._parser().parse_args(arguments)
            return 0, _RECORD[arguments[0]], ""
        assert os.environ["HEADSTART_KFP_HOST"] == "http://localhost:8888"
        assert os.environ["AWS_ACCESS_KEY_ID"]
        os.environ["HEADSTART_KFP_HOST"] = self._kfp.host
        for variable in [key for key in os.environ if key.startswith("MLFLOW_TRACKING_")]:
            del os.environ[variable]
        if arguments[0] == "submit" and any("@sha256:" in each for each in arguments) and self._kfp.runs:
            # All but what writes to the record.
            self._kfp.reused = frozenset({"pretrain"}) if len(self._kfp.runs) == 1 else frozenset()
        answer = answer_of(arguments)
        if "--cron" in arguments and answer[0] == 0:
            # The clock strikes.
            answer_of(["submit", *arguments[1 : arguments.index("--name")]])
        return answer

    def lost(self, how: str) -> None:
        """The training's pod goes, with a checkpoint of a second ago: without retries its step fails."""
        assert load_profile(Path("demo/cpu.yaml")).environment.values == {CHECKPOINT_VARIABLE: "1"}
        if how == "killed" and "count: 0" in Path("demo/cpu.yaml").read_text():
            self._kfp.workflows[self._kfp.runs[-1]["run_id"]].fails = "pretrain"


def _made(arguments: list[str]) -> Answer:
    """make image, docker build and kind load, of what the manifests name."""
    words = " ".join(arguments)
    assert "image IMAGE=headstart:0.1.0" in words or "headstart-mlflow:0.1.0" in words
    return 0, "", ""


_BOTO3 = """
from pathlib import Path
from types import SimpleNamespace
def client(service):
    def upload_file(path, bucket, key):
        assert Path(path).is_file() and (service, bucket) == ("s3", "headstart-state"), (path, bucket)
    return SimpleNamespace(upload_file=upload_file)
"""
_DEMO = """
import sys
from pathlib import Path
for name in ("mnist", "digits"):
    (Path(sys.argv[1]) / "data" / name / "0").mkdir(parents=True)
"""


@pytest.fixture
def tools(tmp_path: Path, kfp) -> Iterator[Callable[..., SimpleNamespace]]:
    """Makes PATH's programs for a cluster on which some things are present."""
    with contextlib.ExitStack() as stack:

        def make(*present: str) -> SimpleNamespace:
            commands = Commands(kfp)
            cluster = Cluster(commands.lost, frozenset(present))
            answers = {"kubectl": cluster.kubectl, "headstart": commands.headstart}
            answers |= dict.fromkeys(("make", "docker", "kind"), _made)
            answers["sleep"] = lambda arguments: (0, "", "")
            folder = stack.enter_context(programs(tmp_path / "programs", answers))
            modules = tmp_path / "modules"
            (modules / "headstart_pipelines").mkdir(parents=True)
            (modules / "boto3.py").write_text(_BOTO3)
            (modules / "headstart_pipelines" / "demo.py").write_text(_DEMO)
            python = folder / "python"
            python.write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec {sys.executable} -S "$@"\n')
            python.chmod(0o755)
            return SimpleNamespace(cluster=cluster, commands=commands, folder=folder)

        yield make


@pytest.fixture
def journey(tmp_path: Path, tools) -> Callable[..., SimpleNamespace]:
    """A journey that may be begun, on a cluster on which some things are present."""

    def make(*present: str, image: str | None = None) -> SimpleNamespace:
        made = tools(*present)
        project = tmp_path / "project"
        copy_project(project, {"HEADSTART_IMAGE": image} if image else {})
        said: list[str] = []
        heard: list[str] = []
        environment = {**os.environ, "PATH": f"{made.folder}:{os.environ['PATH']}"}

        def opened() -> Shell:
            return Shell(project, environment, heard.append)

        return SimpleNamespace(
            journey=Journey(opened, image, said.append), said=said, heard=heard, project=project, **vars(made)
        )

    return make


# The journey


def gone(whole: SimpleNamespace) -> list[str]:
    """The commands that a journey went through."""
    return [said.removeprefix("$ ") for said in whole.said if said.startswith("$ ")]


@pytest.mark.slow
def test_every_command_of_the_readme_does_what_it_promises(journey, kfp):
    whole = journey()
    whole.journey.travel(steps())

    assert gone(whole) == [command for step in steps() for command in step.commands]
    assert whole.cluster.objects == set(), "everything that was applied is taken away"
    assert kfp.recurring == []


def test_with_an_image_of_a_registry_none_is_built_and_the_second_run_reuses_steps(journey):
    whole = journey(image=DIGEST)
    # Up to the second run, which is where a digest makes a difference.
    chosen = [step for step in steps() if step.number <= 10 or step.title in TAKING_AWAY]
    whole.journey.travel(chosen)

    assert f"IMAGE={DIGEST}" in gone(whole)
    assert not any(command.startswith(("make", "docker", "kind")) for command in gone(whole))
    assert "↺ pretrain" in "".join(whole.heard)


def test_what_is_not_as_promised_is_named_nothing_follows_and_all_is_taken_away(journey):
    broken = journey()
    with pytest.raises(NotKept, match=r"step 2, The run: `headstart submit nosuch.yaml`: it ended with 2 instead of 0"):
        broken.journey.travel(
            [
                Step(1, "The record", ("export HEADSTART_KFP_HOST=http://localhost:8888 AWS_ACCESS_KEY_ID=x",
                                       "kubectl apply -k infra/kubeflow/local")),
                Step(2, "The run", ("headstart submit nosuch.yaml", "touch after")),
                Step(3, TAKING_AWAY[0], ("kubectl delete -k infra/kubeflow/local",)),
            ]
        )  # fmt: skip
    assert not (broken.project / "after").exists()
    assert broken.cluster.objects == set()


def test_what_was_on_the_cluster_before_is_neither_installed_nor_taken_away(journey):
    found = journey("infra/kubeflow/local")
    before = set(found.cluster.objects)
    chosen = [step for step in steps() if step.title in (*INSTALLED, *TAKING_AWAY)]
    found.journey.travel(chosen)

    assert found.cluster.objects == before
    assert "1. Kubeflow Pipelines: left out, it is there" in found.said
    done = [command for command in found.cluster.commands if command.startswith(("apply", "delete"))]
    assert not any("pipelines" in command or "infra/kubeflow" in command for command in done)
    assert len(done) == 4


def test_a_cluster_that_somebody_uses_is_left_alone(journey):
    theirs = journey("headstart")
    with pytest.raises(NotPossible, match="has a namespace headstart already"):
        theirs.journey.travel(steps())
    assert theirs.cluster.commands == ["get namespace headstart"]


def test_every_promise_is_one_of_a_command_of_the_readme():
    known = [(step.title, command) for step in steps() for command in step.commands]
    for promise in PROMISES:
        image = DIGEST if promise.image == "digest" else "headstart:0.1.0"
        assert any(promise_of(*each, image) == promise for each in known), promise
    assert {step.title for step in steps()} >= {IMAGES, *INSTALLED, *TAKING_AWAY}
    assert any(command == journeys.OWN_IMAGE for _, command in known)


def test_the_images_of_a_registry_are_those_that_the_overlay_applies(tmp_path):
    copy_project(tmp_path, {"MLFLOW_IMAGE": "registry.example.com/headstart-mlflow:0.1.0"})
    text = (tmp_path / "infra" / "versions" / "images.env").read_text()
    assert "\nMLFLOW_IMAGE=registry.example.com/headstart-mlflow:0.1.0\n" in text
    assert (tmp_path / "pipelines" / "recipes" / "digits.yaml").is_file()


def test_without_a_cluster_it_says_that_it_is_skipped(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["cluster"])
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert program.main() == 0
    assert "skipped: there is no cluster to try: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("-n kubeflow port-forward svc/ml-pipeline 8888:8889", "does not have a service port 8888:8889"),
        ("-n default port-forward svc/ml-pipeline 8888:8888", "does not have a service port"),
        ("-n kubeflow wait --for=condition=available deployment/ml-pipelines", "ml-pipelines"),
        ("-n kubeflow wait --fore=condition=available deployment --all", "unknown flag: --fore"),
        ("-n kubeflow exec pod/another -c main -- bash", "pod/another"),
        ("-n kubeflow delete --wait=false pod/another", "pod/another"),
        ("delete -k infra/kubeflow/local", ""),
    ],
)
def test_the_stand_in_refuses_what_kubectl_would_refuse(command, reason, monkeypatch):
    monkeypatch.chdir(journeys.ROOT)
    cluster = Cluster(lambda how: None, frozenset({"infra/kubeflow/local"}))
    status, _, said = cluster.kubectl(command.split())
    assert (status != 0) == bool(reason)
    assert reason in said


# The shell


def test_variables_stay_and_no_command_reads_those_that_follow(tmp_path):
    with Shell(tmp_path, dict(os.environ), lambda line: None) as shell:
        assert shell.run("A=1; export B=2", 10).status == 0
        assert shell.run("cat; echo $A $B; printf no-newline; false", 10) == Outcome(1, "1 2\nno-newline")


def test_a_command_that_does_not_end_and_a_background_job_end_with_the_shell(tmp_path):
    with Shell(tmp_path, dict(os.environ), lambda line: None) as shell:
        assert shell.run("sleep 100 & echo $! > job", 10).status == 0
        assert shell.run("sleep 100", 0.2).status is None
    job = Path("/proc", (tmp_path / "job").read_text().strip(), "stat")
    deadline = time.monotonic() + 10
    # A process that has ended may be left for somebody to collect.
    while job.exists() and job.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the background job lives on"
