"""A training that several processes of this machine share ends as that of one, or says why it does not."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.errors import HeadstartError, InputError
from headstart.jobs.job import Job, train, transfer_job
from headstart.jobs.launch import PROCESSES_VARIABLE
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.engine import CHECKPOINT_VARIABLE
from headstart.training.section import Training
from headstart.training.trained import Trained

# Batches of 9, which no two processes share evenly; twelve epochs, so that a process can be ended in the middle.
SETTINGS = {
    "epochs": 12, "patience": 12, "batch_size": 9, "precision": "fp32", "layout": "contiguous", "compile": "off",
}  # fmt: skip


@dataclass
class _Outcome:
    """What a training came to, and what it told the step."""

    trained: Trained
    epochs: list[int] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    shown: list[tuple[str, int]] = field(default_factory=list)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.trained.bundle.network.state_dict()


def context(on_epoch: Any = None, progress: Any = None) -> RunContext:
    return RunContext(seed=1, on_epoch=on_epoch, progress=progress)


def outcome(job: Job, watch: Callable[[int], None] = lambda epoch: None) -> _Outcome:
    found = _Outcome(trained=None)  # type: ignore[arg-type]

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        found.epochs.append(epoch)
        found.curve.append(metrics)
        watch(epoch)

    found.trained = train(job, context(on_epoch, lambda label, done, *_: found.shown.append((label, done))))
    return found


def workers() -> dict[int, psutil.Process]:
    """The processes that train, by their rank: those whose job lies in this test's temporary folder."""
    place, found = tempfile.gettempdir(), {}
    for process in psutil.process_iter():
        try:
            if any(place in argument for argument in process.cmdline()) and "RANK" in process.environ():
                found[int(process.environ()["RANK"])] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="module")
def jobs(source_path: Path, tmp_path_factory: pytest.TempPathFactory, once) -> dict[str, Job]:
    """Trainings on 45 pictures; 23 are held out for validation."""
    from headstart.data.prepare import prepare
    from headstart.data.section import Data
    from headstart_pipelines.demo import digits, write_folder
    from tests.sources import WORDS

    def make(root: Path) -> None:
        images, labels = digits()
        chosen = [1000 + i for i, label in enumerate(labels[1000:]) if label in WORDS][:91]
        write_folder(images[chosen], labels[chosen], root / "pictures")
        prepare(
            Data.of({"uri": str(root / "pictures"), "size": 16, "split": {"train": 0.5, "val": 0.25, "test": 0.25}}),
            root / "packed",
        )

    packed = once("shared-training", make) / "packed"

    def transfer(strategy: object, **settings: object) -> Job:
        return transfer_job(
            source_path,
            packed,
            Strategy.model_validate(strategy),
            training=Training.of({**SETTINGS, **settings}),
            reference="models:/digits-source/1",
            digest=None,
        )

    return {
        "full": transfer("full"),
        "partial": transfer("partial", epochs=3),
        "impossible": transfer({"name": "deep", "transfer": "partial", "freeze": 99}),
        "zero": transfer("zero"),
    }


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def in_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")


@pytest.fixture(scope="module")
def full(jobs: dict[str, Job]) -> _Outcome:
    """The full transfer in two processes, uninterrupted."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(PROCESSES_VARIABLE, "2")
        return outcome(jobs["full"])


def check_same(two: _Outcome, one: _Outcome) -> None:
    """The same curve to 1e-4, the same result, and weights that moved."""
    assert (two.trained.params["processes"], one.trained.params["processes"]) == (2, 1)
    assert two.epochs == one.epochs
    for ours, alone in zip(two.curve, one.curve, strict=True):
        assert ours == pytest.approx(alone, abs=1e-4)
    losses = [metrics["val/loss"] for metrics in one.curve]
    assert max(losses) - min(losses) > 1e-3
    assert two.trained.validation == pytest.approx(one.trained.validation, abs=1e-4)
    assert two.trained.bundle.temperature == pytest.approx(one.trained.bundle.temperature, abs=1e-3)
    # Element by element they may differ more: Adam takes a whole step by a gradient that is nothing but rounding.
    ours, alone = (torch.cat([value.flatten().double() for value in one_.weights.values()]) for one_ in (two, one))
    assert torch.linalg.vector_norm(ours - alone) < 0.01 * torch.linalg.vector_norm(alone)


@pytest.mark.slow
def test_two_processes_train_fully_as_one_does_batch_norm_and_uneven_batches_included(full, jobs):
    check_same(full, outcome(jobs["full"]))


@pytest.mark.slow
@pytest.mark.usefixtures("in_two_processes")
def test_two_processes_train_the_later_stages_as_one_does(jobs, monkeypatch):
    two = outcome(jobs["partial"])
    monkeypatch.setenv(PROCESSES_VARIABLE, "1")
    check_same(two, outcome(jobs["partial"]))


@pytest.mark.slow
def test_an_epoch_is_told_once_and_progress_shown_by_one_process(full):
    assert full.epochs == list(range(13))
    # Then come the trainings with other parts of the labels held out.
    assert [done for _, done in full.shown][:12] == list(range(1, 13))


@pytest.mark.slow
def test_the_model_says_what_it_is_as_if_one_process_had_trained_it(full, jobs):
    assert full.trained.bundle.provenance["source"] == "models:/digits-source/1"
    assert len(full.trained.bundle.provenance["history"]) == len(full.trained.history) == 12
    assert full.trained.samples_per_second > 0
    held_out = Dataset.open(jobs["full"].dataset).split("val").ids.tolist()
    assert full.trained.held_out.ids.tolist()[: len(held_out)] == held_out


@pytest.mark.slow
@pytest.mark.usefixtures("in_two_processes")
def test_one_that_is_killed_ends_the_training_and_the_next_goes_on_to_the_same_bits(
    full, jobs, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "0")
    started: dict[int, psutil.Process] = {}

    def kill(epoch: int) -> None:
        if epoch == 0:
            started.update(workers())
        if epoch == 2:
            started[1].send_signal(signal.SIGKILL)

    with pytest.raises(HeadstartError, match=r"2 processes .* gave no reason; .*memory ran out") as failed:
        outcome(jobs["full"], kill)
    assert not isinstance(failed.value, InputError)
    assert "Signal 9 (SIGKILL)" in capfd.readouterr().out
    assert sorted(started) == [0, 1]
    assert workers() == {}
    (checkpoint,) = (tmp_path / "state" / "checkpoints").iterdir()
    assert checkpoint.stat().st_size > 0

    resumed = outcome(jobs["full"])

    assert "goes on from its checkpoint" in capfd.readouterr().out
    assert resumed.curve == full.curve
    assert resumed.trained.history == full.trained.history
    assert all(torch.equal(full.weights[name], value) for name, value in resumed.weights.items())
    assert resumed.trained.bundle.save(tmp_path / "resumed") == full.trained.bundle.save(tmp_path / "full")


@pytest.mark.usefixtures("in_two_processes")
def test_what_a_process_cannot_do_is_said_as_one_alone_says_it(jobs):
    with pytest.raises(InputError, match=r"^strategies\.deep\.freeze is 99, but convnet has .* stages; freeze at most"):
        outcome(jobs["impossible"])
    assert workers() == {}


@pytest.mark.slow
@pytest.mark.usefixtures("in_two_processes")
def test_an_interrupted_step_ends_its_processes_which_keep_a_checkpoint(jobs, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_STATE", str(tmp_path / "state"))
    started: dict[int, psutil.Process] = {}

    def interrupt(epoch: int) -> None:
        started.update(workers())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcome(jobs["full"], interrupt)
    assert sorted(started) == [0, 1]
    assert workers() == {}
    assert len(list((tmp_path / "state" / "checkpoints").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("in_two_processes")
def test_no_process_outlives_a_step_that_is_killed(jobs, tmp_path):
    """A pod that is evicted takes its GPUs back only when all of its processes are gone."""
    script = f"""
import sys
from pathlib import Path
from headstart.jobs.job import Job, train
from headstart.training.context import RunContext
job = Job({jobs["full"].kind!r}, Path({str(jobs["full"].dataset)!r}), Path({str(jobs["full"].source)!r}),
          {jobs["full"].arguments!r})
train(job, RunContext(seed=1, on_epoch=lambda epoch, metrics: print("epoch", epoch, flush=True)))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as step:
        assert step.stdout
        assert any(line == "epoch 0\n" for line in step.stdout)
        started = workers()
        torchrun = psutil.Process(started[0].ppid())
        step.kill()
        _, left = psutil.wait_procs([torchrun, *started.values()], timeout=60)
    assert sorted(started) == [0, 1]
    assert left == []


def test_what_trains_nothing_step_by_step_starts_no_processes(jobs, monkeypatch):
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert outcome(jobs["zero"]).trained.history == []


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(text, jobs, monkeypatch):
    monkeypatch.setenv(PROCESSES_VARIABLE, text)
    with pytest.raises(InputError, match=f"HEADSTART_PROCESSES is '{text}'; set it to a whole number from 1 on"):
        train(jobs["full"], context())


@pytest.mark.parametrize("change", ["strategy", "data", "code"])
def test_jobs_that_differ_in_anything_that_decides_the_result_have_different_keys(change, jobs, renamed, monkeypatch):
    from dataclasses import replace

    job = jobs["full"]
    before = job.key(context())
    assert before == replace(job).key(context())
    if change == "code":
        monkeypatch.setenv("HEADSTART_CODE", "sha256:1")
    other = {"strategy": jobs["partial"], "data": replace(job, dataset=renamed.path), "code": job}[change]
    assert other.key(context()) != before


@pytest.mark.parametrize("other", [RunContext(seed=2), RunContext(seed=1, metric="macro_f1")])
def test_a_job_of_another_seed_or_metric_has_another_key(other, jobs):
    assert jobs["full"].key(other) != jobs["full"].key(context())
