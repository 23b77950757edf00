"""Trainings as jobs, which run in this process, in several, or on several machines, with the same result.

HEADSTART_NODES and HEADSTART_PROCESSES say where. Whatever they are, a step of the optimiser sees the plan's batch, of
which every process takes a share; so the learning rate stays what it is.
"""

import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import HeadstartError, InputError
from headstart.jobs.exchange import RESULT, Exchange
from headstart.jobs.launch import Listener, node_count, process_count, run_processes
from headstart.models.bundle import FILES as BUNDLE_FILES
from headstart.models.bundle import ModelBundle, bundle_digest, versions
from headstart.storage.digests import json_digest
from headstart.storage.state import STATE_VARIABLE, State
from headstart.strategies.baseline import BASELINES, Like
from headstart.strategies.section import Strategy
from headstart.training.context import RunContext
from headstart.training.distributed import Group
from headstart.training.engine import training_device
from headstart.training.section import Pretraining, Training
from headstart.training.trained import HELD_OUT, Trained, read_held_out
from headstart.version import CODE_VARIABLE, __version__

_FOLDER = "jobs"


@dataclass(frozen=True)
class Job:
    """A training: its kind, the directories of its packed data set and of the bundle that its weights come from, and
    its arguments as JSON values. `shared` tells whether several processes can share it."""

    kind: Literal["transfer", "pretraining", "baseline"]
    dataset: Path
    source: Path | None
    arguments: dict[str, Any]
    shared: bool = True

    def key(self, context: RunContext) -> str:
        """A digest of all that decides the result."""
        dataset = Dataset.open(self.dataset)
        content = {
            "kind": self.kind,
            "arguments": self.arguments,
            **context.settings,
            "data": [
                dataset.digest,
                dataset.store,
                dataset.shape,
                *(dataset.split_digest(split) for split in SPLITS),
                dataset.blocks_digest,
            ],
            "source": bundle_digest(self.source) if self.source else None,
            "versions": versions(),
            "code": os.environ.get(CODE_VARIABLE),
        }
        return json_digest(content)

    def run(self, context: RunContext) -> Trained:
        """Train in this process, or its part of it where it is one of several."""
        from headstart.strategies.pretraining import pretrain
        from headstart.strategies.transfer import transfer

        given, dataset = dict(self.arguments), Dataset.open(self.dataset)
        if self.kind == "pretraining":
            section = Pretraining.of(given["pretraining"], at="source.pretraining")
            start = ModelBundle.load(self.source) if self.source else None
            return pretrain(section, dataset, context, start=start)
        training = Training.of(given.pop("training"), at="training")
        if self.kind == "baseline":
            return BASELINES[given["baseline"]].fit(Like(**given["like"]), dataset, training, context)
        assert self.source is not None  # noqa: S101 (transfer_job asks for it)
        strategy = Strategy.of(given.pop("strategy"), at="strategies")
        source = ModelBundle.load(self.source)
        return transfer(source, dataset, strategy, training=training, context=context, **given)


def transfer_job(
    source: Path,
    dataset: Path,
    strategy: Strategy,
    *,
    training: Training,
    reference: str | None,
    digest: str | None,
) -> Job:
    """A transfer by one strategy; the arguments are those of `headstart.strategies.transfer.transfer`."""
    arguments = {
        "strategy": strategy.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "reference": reference,
        "digest": digest,
    }
    return Job("transfer", dataset, source, arguments, shared=strategy.trains)


def pretraining_job(dataset: Path, pretraining: Pretraining, start: Path | None = None) -> Job:
    """The pretraining of a source as the recipe's section says; `start` is the bundle of the model that it names."""
    return Job("pretraining", dataset, start, {"pretraining": pretraining.model_dump(mode="json")})


def baseline_job(name: str, dataset: Path, source: ModelBundle, training: Training) -> Job:
    """The baseline `name`, which may be like the source and takes over nothing that it learned."""
    arguments = {"baseline": name, "like": Like.of(source)._asdict(), "training": training.model_dump(mode="json")}
    return Job("baseline", dataset, None, arguments, shared=BASELINES[name].is_network)


def train(job: Job, context: RunContext) -> Trained:
    """Do a job where the environment says: on HEADSTART_NODES machines with HEADSTART_PROCESSES processes each, by
    default in this process, or in one process for each of its GPUs.

    The context's `on_epoch` and `progress` are called in this process, with what the process of rank 0 reports; the
    state of other processes is the one that their environment names.

    Raises:
        InputError, HeadstartError: what the first process that failed says.
    """
    nodes, processes = node_count(), process_count()
    if not job.shared or nodes * processes == 1:
        return job.run(context)
    listener = Listener(context.on_epoch, context.progress)
    if nodes > 1:
        trained = _on_nodes(job, context, nodes, listener)
    else:
        trained = _in_processes(job, context, processes, listener)
    listener.tell_rest(trained.history)
    return trained


def _in_processes(job: Job, context: RunContext, processes: int, listener: Listener) -> Trained:
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        exchange = Exchange(place, _FOLDER)
        _send(job, context, exchange)
        run_processes(exchange, processes, listener)
        return _received(exchange)


def _on_nodes(job: Job, context: RunContext, nodes: int, listener: Listener) -> Trained:
    from headstart.jobs.trainjob import run_train_job

    state = State.from_environment()
    if state is None:
        raise InputError(
            f"HEADSTART_NODES is {nodes}, and nodes share no disk: set HEADSTART_STATE to s3://bucket/prefix, or to a "
            "directory of a volume that this step and the nodes mount at the same place."
        )
    state.forget(f"{_FOLDER}/")
    key = job.key(context)
    exchange = Exchange(os.environ[STATE_VARIABLE], f"{_FOLDER}/{key}")
    # The name says what is trained, so that a step which is run again finds the job of the one before.
    run_train_job(
        f"headstart-{key[:16]}", nodes, exchange, lambda: _send(job, context, exchange, carried=True), listener
    )
    trained = _received(exchange)
    exchange.remove("dataset", "source")
    return trained


def _send(job: Job, context: RunContext, exchange: Exchange, *, carried: bool = False) -> None:
    """Write a job for its processes, with its inputs (`carried`) where these do not see the step's directories."""
    if carried:
        exchange.send(job.dataset, "dataset", Dataset.open(job.dataset).files)
        if job.source:
            exchange.send(job.source, "source", BUNDLE_FILES)
    description = {
        "kind": job.kind,
        "dataset": "dataset" if carried else str(job.dataset.absolute()),
        "source": job.source and ("source" if carried else str(job.source.absolute())),
        "arguments": job.arguments,
        "context": context.settings,
        "carried": carried,
        "version": __version__,
    }
    exchange.write("job.json", description)


def received_job(exchange: Exchange, group: Group, place: Path) -> tuple[Job, RunContext]:
    """The job and the context that `_send` wrote, in one of its processes; carried inputs are put into `place`, which
    the processes of a machine share.

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
    job = Job(description["kind"], place / description["dataset"], source, description["arguments"])
    return job, RunContext(**description["context"])


def send_result(trained: Trained, exchange: Exchange) -> None:
    """Write the result of a job for its step."""
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        result = Path(place) / "result"
        trained.bundle.save(result)
        files: tuple[str, ...] = BUNDLE_FILES
        if trained.held_out is not None:
            trained.held_out.save(result / HELD_OUT)
            files = (*files, HELD_OUT)
        exchange.send(result, "result", files)
    in_files = ("model", "held_out")
    values = {field.name: getattr(trained, field.name) for field in fields(trained) if field.name not in in_files}
    exchange.write(RESULT, values)


def _received(exchange: Exchange) -> Trained:
    with tempfile.TemporaryDirectory(prefix="headstart-") as place:
        path = exchange.receive("result", Path(place))
        bundle, held_out = ModelBundle.load(path), read_held_out(path)
    bundle.network.to(training_device())
    return Trained(model=bundle, held_out=held_out, **exchange.read(RESULT))
