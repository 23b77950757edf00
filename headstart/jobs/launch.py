"""Training in several processes of this machine, which torchrun starts and watches."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from headstart.errors import InputError
from headstart.jobs.exchange import Exchange
from headstart.training.context import OnEpoch
from headstart.training.progress import PROGRESS_VARIABLE, RECORD, Progress

NODES_VARIABLE = "HEADSTART_NODES"
PROCESSES_VARIABLE = "HEADSTART_PROCESSES"

# What each process runs.
_WORKER = "headstart.jobs.worker"
ATTACHED = "--attached"

log = logging.getLogger(__name__)


def node_count() -> int:
    """The number of machines of a training: HEADSTART_NODES, 1 by default. InputError if that is no whole number."""
    return _number(NODES_VARIABLE) or 1


def process_count() -> int:
    """The number of processes of a machine: HEADSTART_PROCESSES, by default one for each GPU, and one without.
    InputError if that is no whole number."""
    import torch

    return _number(PROCESSES_VARIABLE) or max(1, torch.cuda.device_count())


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"{variable} is {text!r}; set it to a whole number from 1 on.")
    return int(text)


class Listener:
    """Reads the output of a training's processes: passes on the records of rank 0 and prints the rest."""

    def __init__(self, on_epoch: OnEpoch | None, progress: Progress | None) -> None:
        self._on_epoch, self._progress = on_epoch, progress
        self._told: set[int] = set()

    def hear(self, line: str) -> None:
        """Take one line, without its end."""
        # Several processes share the output, so a record may begin behind what another has not ended.
        text, mark, record = line.partition(RECORD)
        if text or not mark:
            print(text, flush=True)
        if not mark:
            return
        values: dict[str, Any] = json.loads(record)
        if "epoch" in values:
            self.tell(values["epoch"], values["metrics"])
        elif self._progress:
            self._progress(values["label"], values["done"], values["total"], values["note"])

    def tell(self, epoch: int, metrics: dict[str, float]) -> None:
        """Pass an epoch on."""
        self._told.add(epoch)
        if self._on_epoch:
            self._on_epoch(epoch, metrics)

    def tell_rest(self, history: Iterable[Mapping[str, float]]) -> None:
        """Pass on the epochs whose records were lost, as those of a log that was cut."""
        for entry in history:
            if entry["epoch"] not in self._told:
                self.tell(int(entry["epoch"]), {key: value for key, value in entry.items() if key != "epoch"})


def run_processes(exchange: Exchange, processes: int, listener: Listener) -> None:
    """Do the job in `exchange` in `processes` processes, and wait until its result is there.

    torchrun ends all of them when one fails. When this process is interrupted or terminated, they are terminated too,
    write their checkpoint and are waited for.

    Raises:
        InputError, HeadstartError: what the first process that failed says.
    """
    import torch

    # Each of them would start a thread for every core.
    threads = max(1, torch.get_num_threads() // processes)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
        "--nproc-per-node", str(processes), "-m", _WORKER, exchange.location, exchange.folder, ATTACHED,
    ]  # fmt: skip
    environment = {
        **os.environ,
        PROGRESS_VARIABLE: "records",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }
    log.info("training in %d processes of %d threads each", processes, threads)
    with subprocess.Popen(
        command,
        # Nothing is ever written to it: its end tells the processes that this one is gone, however it ended.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        # Signals reach them through this process, once.
        start_new_session=True,
    ) as torchrun:
        try:
            _hear(torchrun, listener)
        except BaseException:
            torchrun.terminate()
            _hear(torchrun, listener)
            raise
        status = torchrun.wait()
    if status:
        raise exchange.failure(
            f"The training's {processes} processes ended with status {status} and gave no reason; see what they "
            "printed last. If one was killed, memory ran out: use fewer processes or a smaller batch_size."
        )


def _hear(process: "subprocess.Popen[str]", listener: Listener) -> None:
    for line in process.stdout or ():
        listener.hear(line.rstrip("\n"))


def end_with_step() -> None:
    """Terminate torchrun, the parent of this process, when the step at the other end of stdin is gone."""

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getppid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
