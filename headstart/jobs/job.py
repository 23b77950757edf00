"""Trainings as jobs: written down, so that they run in this process, in several, or on several machines, with the same
result.

HEADSTART_NODES and HEADSTART_PROCESSES say where. Whatever they are, a step of the optimiser sees the plan's batch, of
which every process takes a share; so the learning rate stays what it is.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import HeadstartError, InputError
from headstart.jobs.exchange import RESULT, Exchange, remove_abandoned
from headstart.jobs.launch import Listener, node_count, process_count, run_processes
from headstart.models.bundle import FILES as BUNDLE_FILES
from headstart.models.bundle import ModelBundle, bundle_digest, versions
from headstart.storage.state import STATE_VARIABLE, State
from headstart.strategies.section import Strategy
from headstart.training.distributed import Group
from headstart.training.engine import OnEpoch, training_device
from headstart.training.progress import Progress
from headstart.training.section import Pretraining, Training
from headstart.training.supervised import Fit
from headstart.version import CODE_VARIABLE, __version__

_FOLDER = "jobs"


@dataclass(frozen=True)
class Trained:
    """A model, how well it does on the validation split, and what its training came to.

    `params` are the settings and choices that belong into the record. Where nothing was trained step by step,
    `samples_per_second` is None and `history` empty.
    """

    bundle: ModelBundle
    validation: float
    seconds: float
    params: dict[str, Any]
    history: list[dict[str, float]]
    samples_per_second: float | None


@dataclass(frozen=True)
class Job:
    """A training: of which kind, on the packed data set and from the bundle in these directories, and its arguments as
    JSON values. `shared` is whether several processes are any use to it."""

    kind: str
    dataset: Path
    source: Path | None
    arguments: dict[str, Any]
    shared: bool = True

    @property
    def key(self) -> str:
        """A digest of all that decides the result."""
        dataset = Dataset.open(self.dataset)
        content = {
            "kind": self.kind,
            "arguments": self.arguments,
            "data": [
                dataset.digest,
                dataset.store,
                dataset.shape,
                *(dataset.split_digest(split) for split in SPLITS),
            ],
            "source": bundle_digest(self.source) if self.source else None,
            "versions": versions(),
            "code": os.environ.get(CODE_VARIABLE),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def run(self, on_epoch: OnEpoch | None = None, progress: Progress | None = None) -> Trained:
        """Trains in this process, or its part of it where it is one of several."""
        return _KINDS[self.kind](self, on_epoch, progress)


def transfer_job(
    source: Path,
    dataset: Path,
    strategy: Strategy,
    *,
    training: Training,
    metric: str,
    seed: int,
    reference: str | None,
    digest: str | None,
) -> Job:
    """A transfer by one strategy; the arguments are those of `headstart.strategies.transfer.transfer`."""
    arguments = {
        "strategy": strategy.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "metric": metric,
        "seed": seed,
        "reference": reference,
        "digest": digest,
    }
    trains = strategy.transfer != "zero" and strategy.freeze != "all"
    return Job("transfer", dataset, source, arguments, shared=trains)


def pretraining_job(dataset: Path, pretraining: Pretraining, *, seed: int) -> Job:
    """The pretraining of a source as the recipe's section says."""
    return Job("pretraining", dataset, None, {"pretraining": pretraining.model_dump(mode="json"), "seed": seed})


def scratch_job(dataset: Path, like: ModelBundle, *, training: Training, metric: str, seed: int) -> Job:
    """The baseline that has the architecture and the input of `like`, and nothing that it learned."""
    arguments = {
        "architecture": like.architecture,
        "size": like.preprocessing.size,
        "channels": like.preprocessing.channels,
        "training": training.model_dump(mode="json"),
        "metric": metric,
        "seed": seed,
    }
    return Job("scratch", dataset, None, arguments)


def train(job: Job, *, on_epoch: OnEpoch | None = None, progress: Progress | None = None) -> Trained:
    """Does a job where the environment says: on HEADSTART_NODES machines with HEADSTART_PROCESSES processes each, by
    default in this process, or in one process for each of its GPUs.

    `on_epoch` and `progress` are called in this process, with what the process of rank 0 reports.

    Raises:
        InputError, HeadstartError: what the first process that failed says.
    """
    nodes, processes = node_count(), process_count()
    if not job.shared or nodes * processes == 1:
        return job.run(on_epoch, progress)
    listener = Listener(on_epoch, progress)
    trained = _on_nodes(job, nodes, listener) if nodes > 1 else _in_processes(job, processes, listener)
    listener.tell_rest(trained.history)
    return trained


def _in_processes(job: Job, processes: int, listener: Listener) -> Trained:
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        exchange = Exchange(place, _FOLDER)
        _send(job, exchange)
        run_processes(exchange, processes, listener)
        return _received(exchange)


def _on_nodes(job: Job, nodes: int, listener: Listener) -> Trained:
    from headstart.jobs.trainjob import run_train_job

    state = State.from_environment()
    if state is None:
        raise InputError(
            f"HEADSTART_NODES is {nodes}, and nodes share no disk: set HEADSTART_STATE to s3://bucket/prefix, or to a "
            "directory of a volume that this step and the nodes mount at the same place."
        )
    remove_abandoned(state, _FOLDER)
    key = job.key
    exchange = Exchange(os.environ[STATE_VARIABLE], f"{_FOLDER}/{key}")
    # The name says what is trained, so that a step which is run again finds the job of the one before.
    run_train_job(f"headstart-{key[:16]}", nodes, exchange, lambda: _send(job, exchange, carried=True), listener)
    trained = _received(exchange)
    exchange.remove("dataset", "source")
    return trained


def _send(job: Job, exchange: Exchange, *, carried: bool = False) -> None:
    """Writes a job down for its processes; `carried` are its inputs where these do not see the step's directories."""
    if carried:
        exchange.send(job.dataset, "dataset", Dataset.open(job.dataset).files)
        if job.source:
            exchange.send(job.source, "source", BUNDLE_FILES)
    description = {
        "kind": job.kind,
        "dataset": "dataset" if carried else str(job.dataset.absolute()),
        "source": job.source and ("source" if carried else str(job.source.absolute())),
        "arguments": job.arguments,
        "carried": carried,
        "version": __version__,
    }
    exchange.write("job.json", description)


def received_job(exchange: Exchange, group: Group, place: Path) -> Job:
    """The job that `_send` wrote down, in one of its processes; what was carried is put into `place`, which the
    processes of a machine share.

    Raises:
        HeadstartError: this is another version of headstart.
    """
    description = exchange.read("job.json")
    if description["version"] != __version__:
        raise HeadstartError(
            f"The step runs headstart {description['version']} and its training headstart {__version__}; give the "
            "training's nodes the step's image."
        )
    if description["carried"]:
        if group.local_rank == 0:
            for name in filter(None, (description["dataset"], description["source"])):
                exchange.receive(name, place)
        group.barrier()
    source = description["source"] and place / description["source"]
    # Where an input was not carried, its path is absolute and stays what it is.
    return Job(description["kind"], place / description["dataset"], source, description["arguments"])


def send_result(trained: Trained, exchange: Exchange) -> None:
    """Hands the result of a job to its step."""
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        trained.bundle.save(Path(place) / "result")
        exchange.send(Path(place) / "result", "result", BUNDLE_FILES)
    values = {field.name: getattr(trained, field.name) for field in fields(trained) if field.name != "bundle"}
    exchange.write(RESULT, values)


def _received(exchange: Exchange) -> Trained:
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        bundle = ModelBundle.load(exchange.receive("result", Path(place)))
    bundle.network.to(training_device())
    return Trained(bundle=bundle, **exchange.read(RESULT))


def _transfer(job: Job, on_epoch: OnEpoch | None, progress: Progress | None) -> Trained:
    from headstart.strategies.transfer import transfer

    assert job.source is not None  # noqa: S101 (transfer_job asks for it)
    given = dict(job.arguments)
    result = transfer(
        ModelBundle.load(job.source),
        Dataset.open(job.dataset),
        Strategy.of(given.pop("strategy"), at="strategies"),
        training=Training.of(given.pop("training"), at="training"),
        on_epoch=on_epoch,
        progress=progress,
        **given,
    )
    return _trained(result.bundle, result.validation, result.seconds, result.to_params(), result.fit)


def _pretraining(job: Job, on_epoch: OnEpoch | None, progress: Progress | None) -> Trained:
    from headstart.strategies.pretraining import pretrain

    section = Pretraining.of(job.arguments["pretraining"], at="source.pretraining")
    bundle, fitted, plan = pretrain(
        section, Dataset.open(job.dataset), seed=job.arguments["seed"], on_epoch=on_epoch, progress=progress
    )
    params = {"architecture": section.architecture, **plan.to_params(), **fitted.settings}
    return _trained(bundle, fitted.validation, fitted.seconds, params, fitted)


def _scratch(job: Job, on_epoch: OnEpoch | None, progress: Progress | None) -> Trained:
    from headstart.strategies.pretraining import train_from_scratch

    given = dict(job.arguments)
    bundle, fitted, plan = train_from_scratch(
        given.pop("architecture"),
        Dataset.open(job.dataset),
        training=Training.of(given.pop("training"), at="training"),
        role="baseline",
        on_epoch=on_epoch,
        progress=progress,
        label="scratch",
        **given,
    )
    params = {"architecture": job.arguments["architecture"], **plan.to_params(), **fitted.settings}
    return _trained(bundle, fitted.validation, fitted.seconds, params, fitted)


def _trained(
    bundle: ModelBundle, validation: float, seconds: float, params: dict[str, Any], fitted: Fit | None
) -> Trained:
    return Trained(
        bundle=bundle,
        validation=validation,
        seconds=seconds,
        params={**params, "temperature": bundle.temperature},
        history=fitted.history if fitted else [],
        samples_per_second=fitted.samples_per_second if fitted else None,
    )


_KINDS = {"transfer": _transfer, "pretraining": _pretraining, "scratch": _scratch}
