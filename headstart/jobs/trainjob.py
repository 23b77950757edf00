"""Training on several machines: a Kubeflow TrainJob that the step starts, watches and ends.

The nodes' image, resources, credentials and mounts are those of a training runtime (infra/trainjob/runtime.yaml), which
belongs to the cluster. What is to be done and what came of it travel through the state (HEADSTART_STATE).
"""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headstart.errors import HeadstartError, InputError
from headstart.jobs.exchange import Exchange
from headstart.jobs.launch import PROCESSES_VARIABLE, Listener
from headstart.storage import s3
from headstart.storage.state import STATE_VARIABLE
from headstart.terminal import lines_of
from headstart.training.engine import CHECKPOINT_VARIABLE
from headstart.training.progress import PROGRESS_VARIABLE
from headstart.version import CODE_VARIABLE

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient

# "kubernetes" (the default), or "docker" for nodes that are containers on this machine.
BACKEND_VARIABLE = "HEADSTART_TRAINJOB_BACKEND"
# The training runtime: its name on the cluster, or its file for Docker.
RUNTIME_VARIABLE = "HEADSTART_TRAINJOB_RUNTIME"
# Kueue's LocalQueue that a TrainJob waits in for its nodes, on a cluster that has one.
QUEUE_VARIABLE = "HEADSTART_TRAINJOB_QUEUE"
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
# The nodes' image, where it is another than the runtime's.
IMAGE_VARIABLE = "HEADSTART_TRAINJOB_IMAGE"
# What each process of a node holds: "gpu" (the default), or "cpu" for one core.
DEVICE_VARIABLE = "HEADSTART_TRAINJOB_DEVICE"
# A node's memory as Kubernetes writes it, where it is another than the runtime's.
MEMORY_VARIABLE = "HEADSTART_TRAINJOB_MEMORY"

# What the nodes are told of the step's environment. Credentials come from the runtime, not from a TrainJob, which more
# people may read than a secret.
_PASSED = (
    STATE_VARIABLE, CODE_VARIABLE, CHECKPOINT_VARIABLE,
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "GOMP_SPINCOUNT",
)  # fmt: skip
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Only nodes that are containers of this machine have the step's cores.
_CORES = ("OMP_NUM_THREADS",)

_RUNTIME = "headstart"

_POLL_SECONDS = 2.0
# How long the cluster may stay away before the step gives up; the job goes on, and a retried step finds it again.
_PATIENCE_SECONDS = 300.0

# How long a TrainJob may be without nodes before the step says so.
_SILENCE_SECONDS = 15.0

# A status that stays; None is that of a TrainJob which is not there. In any other it runs, is about to, or is held up.
_ENDED = ("Complete", "Failed", None)

_LAST_LINES = 30

log = logging.getLogger(__name__)


def run_train_job(name: str, nodes: int, exchange: Exchange, prepare: Callable[[], None], listener: Listener) -> None:
    """Do the job in `exchange` as the TrainJob `name` on `nodes` machines, and wait until its result is there.

    A TrainJob of that name which still runs is watched instead of starting another, one that has left its result is
    removed, and one that failed is started anew. When it has ended, and when this process is interrupted or terminated,
    the TrainJob is removed: whoever cancels the step wants its machines back, and what they computed is in the
    checkpoint. Of a step that is killed it goes on, and a retried step finds it.

    Args:
        prepare: writes the job to the exchange, before the TrainJob is created.

    Raises:
        InputError: the environment names no usable backend or runtime.
        HeadstartError: what the first process that failed says, or what the cluster says.
    """
    jobs = _Jobs(exchange.location)
    if exchange.has_result():
        jobs.delete(name)
        return
    found = jobs.find(name)
    if found.status not in _ENDED and found.nodes == nodes:
        log.info("TrainJob %s runs already; this step waits for it", name)
    else:
        jobs.remove(name)
        exchange.remove("errors")
        prepare()
        jobs.create(name, nodes, exchange)
        log.info("TrainJob %s started on %d nodes", name, nodes)
    try:
        status = jobs.watch(name, listener)
    except (SystemExit, KeyboardInterrupt):
        jobs.delete(name)
        raise
    failed = status == "Failed" or not exchange.has_result()
    if failed:
        jobs.print_other_nodes(name)
    jobs.delete(name)
    if failed:
        raise exchange.failure(
            f"TrainJob {name} ended as {status or 'removed'} and left neither a result nor a reason; see what its "
            "nodes printed last. If one was killed, memory ran out: use more nodes or a smaller batch_size."
        )


def train_on_node(location: str, folder: str) -> None:
    """Take part in a job on a node, to which only this function's source travels."""
    from headstart.jobs.worker import work

    work(location, folder)


class _Found(NamedTuple):
    """A TrainJob: its status, None if there is none, its number of nodes, and how many of them have a pod."""

    status: str | None
    nodes: int
    pods: int


class _Jobs:
    """The TrainJobs of a cluster's namespace, or of this machine's Docker."""

    def __init__(self, location: str) -> None:
        self._backend = os.environ.get(BACKEND_VARIABLE, "kubernetes")
        if self._backend not in ("kubernetes", "docker"):
            raise InputError(f"{BACKEND_VARIABLE} is {self._backend!r}; set it to kubernetes or docker.")
        if self._backend == "docker" and not s3.is_s3(location):
            raise InputError(
                f"The containers of a TrainJob see no directory of this machine, and HEADSTART_STATE is {location}; "
                "set it to s3://bucket/prefix."
            )
        self._runtime, source = _runtime(self._backend)
        with _explained("reach the TrainJobs"):
            self._client = _client(self._backend, source)

    def find(self, name: str) -> _Found:
        """Look a TrainJob up."""
        try:
            found = self._client.get_job(name)
        except Exception as error:
            if _is_missing(error):
                return _Found(None, 0, 0)
            raise HeadstartError(f"The step cannot look up the TrainJob {name}: {_reason(error)}") from error
        return _Found(found.status, found.num_nodes, len(found.steps))

    def create(self, name: str, nodes: int, exchange: Exchange) -> None:
        from kubeflow.trainer import CustomTrainer
        from kubeflow.trainer.options import Labels, Name

        passed = _PASSED + (_CREDENTIALS + _CORES if self._backend == "docker" else ())
        environment = {variable: os.environ[variable] for variable in passed if variable in os.environ}
        resources = _resources(self._backend)
        if "cpu" in resources:
            # torch would start a thread for every core of the machine, in a process that has one.
            environment["OMP_NUM_THREADS"] = "1"
        trainer = CustomTrainer(
            func=train_on_node,
            func_args={"location": exchange.location, "folder": exchange.folder},
            num_nodes=nodes,
            image=os.environ.get(IMAGE_VARIABLE),
            env={**environment, PROGRESS_VARIABLE: "records", "PYTHONUNBUFFERED": "1"},
            resources_per_node=resources or None,
        )
        options: list[Name | Labels] = [Name(name=name)]
        if self._backend == "kubernetes" and (waiting := os.environ.get(QUEUE_VARIABLE)):
            options.append(Labels({_QUEUE_LABEL: waiting}))
        with _explained(f"create the TrainJob {name}"):
            self._client.train(runtime=self._runtime, trainer=trainer, options=options)

    def watch(self, name: str, listener: Listener) -> str | None:
        """Wait until a TrainJob has ended, pass on what its nodes print, and return its last status; None if somebody
        has removed it."""
        ended = threading.Event()
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=self._read_logs, args=(name, lines, ended), daemon=True)
        reader.start()
        began = seen = time.monotonic()
        is_told = False
        try:
            while True:
                _hear(lines, listener, _POLL_SECONDS)
                try:
                    found = self.find(name)
                    seen = time.monotonic()
                except HeadstartError as error:
                    if time.monotonic() - seen > _PATIENCE_SECONDS:
                        raise
                    log.warning("%s", error)
                    continue
                if found.status in _ENDED:
                    break
                if not is_told and not found.pods and seen - began > _SILENCE_SECONDS:
                    is_told = True
                    waiting = os.environ.get(QUEUE_VARIABLE)
                    where = f"it waits in the queue {waiting}" if waiting else f"see kubectl describe trainjob {name}"
                    log.info("TrainJob %s has none of its %d nodes yet: %s", name, found.nodes, where)
        finally:
            ended.set()
        # The last lines may still be on their way.
        reader.join(timeout=2 * _POLL_SECONDS)
        _hear(lines, listener, 0)
        return found.status

    def _read_logs(self, name: str, lines: "queue.Queue[str]", ended: threading.Event) -> None:
        seen = 0
        while True:
            # The nodes may not be there yet, and a connection may break: the log is then read again from its start.
            with contextlib.suppress(Exception):
                for number, line in enumerate(self._log(name)):
                    if number >= seen:
                        lines.put(line)
                        seen = number + 1
            if ended.wait(_POLL_SECONDS):
                return

    def _log(self, name: str) -> Iterator[str]:
        """The lines that the nodes print, of a cluster's those of the first; ends with them."""
        printed = self._client.get_job_logs(name, follow=True)
        return printed if self._backend == "kubernetes" else lines_of(printed)

    def print_other_nodes(self, name: str) -> None:
        """Print the last lines of all nodes but the first, whose lines were passed on; a failure is a warning."""
        try:
            for number in range(1, self.find(name).nodes):
                print(f"the last lines of node {number} of TrainJob {name}:")
                for line in "\n".join(self._client.get_job_logs(name, step=f"node-{number}")).splitlines()[
                    -_LAST_LINES:
                ]:
                    print(f"  {line}")
        except Exception as error:
            log.warning("What the nodes of TrainJob %s printed cannot be read: %s", name, _reason(error))

    def delete(self, name: str) -> None:
        """Have a TrainJob removed, if there is one."""
        if self.find(name).status is not None:
            with _explained(f"remove the TrainJob {name}"):
                self._client.delete_job(name)

    def remove(self, name: str) -> None:
        """Remove a TrainJob, if there is one, and wait until its name is free."""
        self.delete(name)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.find(name).status is not None:
            if time.monotonic() > deadline:
                raise HeadstartError(f"TrainJob {name} does not go away; see what holds it and delete it.")
            time.sleep(_POLL_SECONDS)


def _hear(lines: "queue.Queue[str]", listener: Listener, seconds: float) -> None:
    """Pass on the lines that come within that time."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(queue.Empty):
        while True:
            listener.hear(lines.get(timeout=max(0.001, deadline - time.monotonic())))


def _runtime(backend: str) -> tuple[str, Path | None]:
    """The training runtime's name, and for Docker the file that describes it."""
    import yaml

    given = os.environ.get(RUNTIME_VARIABLE)
    if backend == "kubernetes":
        return given or _RUNTIME, None
    try:
        path = Path(given or "").absolute()
        return str(yaml.safe_load(path.read_text())["metadata"]["name"]), path
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise InputError(
            f"{RUNTIME_VARIABLE} is {given!r}; with {BACKEND_VARIABLE}=docker set it to the file of a training "
            "runtime, such as infra/trainjob/runtime.yaml."
        ) from None


def _resources(backend: str) -> dict[str, int | str]:
    """Resources of each node, in the SDK's names; those that are not named are the runtime's.

    The cluster starts a process for each GPU of a node, and on a node without GPUs one for each requested core.
    """
    device = os.environ.get(DEVICE_VARIABLE, "gpu")
    if device not in ("gpu", "cpu"):
        raise InputError(f"{DEVICE_VARIABLE} is {device!r}; set it to gpu or cpu.")
    resources: dict[str, int | str] = {}
    if processes := os.environ.get(PROCESSES_VARIABLE):
        # Docker takes the number of processes from the number of GPUs and gives its containers none.
        resources["gpu" if backend == "docker" else device] = int(processes)
    if memory := os.environ.get(MEMORY_VARIABLE):
        resources["memory"] = memory
    return resources


def _client(backend: str, runtime: Path | None) -> "TrainerClient":
    try:
        from kubeflow.trainer import ContainerBackendConfig, TrainerClient, TrainingRuntimeSource
    except ImportError:
        raise InputError(
            "Training on several nodes needs the Kubeflow SDK; install it: pip install 'headstart[trainjob]'."
        ) from None
    # What it logs of an error, with a traceback, it raises as well.
    logging.getLogger("kubeflow.trainer").setLevel(logging.CRITICAL)
    if backend == "kubernetes":
        return TrainerClient()
    return TrainerClient(
        ContainerBackendConfig(
            # Without a source of its own it would look for runtimes on the open internet.
            container_runtime="docker", runtime_source=TrainingRuntimeSource(sources=[f"file://{runtime}"])
        )
    )  # fmt: skip


@contextlib.contextmanager
def _explained(action: str) -> Iterator[None]:
    """Raise the SDK's errors as errors that say which action failed."""
    try:
        yield
    except HeadstartError:
        raise
    except Exception as error:
        raise HeadstartError(f"The step cannot {action}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """An error on one line, with its cause: the SDK hides the API's own answer behind its own error."""
    told, cause = str(error), str(error.__cause__ or "")
    return " ".join((told if cause in told else f"{told}: {cause}").split())[:300]


def _is_missing(error: Exception) -> bool:
    """Whether the SDK failed because there is no TrainJob of that name; its errors have no types for that."""
    if "TrainJob" not in str(error):
        return False
    return str(error).startswith("No TrainJob with name") or getattr(error.__cause__, "status", None) == 404
