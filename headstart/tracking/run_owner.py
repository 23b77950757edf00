"""The process that a pipeline run on a person's machine lives and dies with, in the tags of its MLflow run.

A process that is killed cannot end its run, which would be RUNNING for ever. Whoever meets such a run later ends it as
KILLED, provided that its owner is dead beyond doubt: that takes the same boot of the same machine and the same view of
its processes. About any other process nothing is known, so its run is left alone.
"""

import logging
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import OWNER_MACHINE, OWNER_PROCESS
from headstart.tracking.runs import Run, end_with_steps

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


def owner_tags() -> dict[str, str]:
    """Tags that name this process as the owner of a run; none on a system that does not tell them."""
    machine, process = _machine(), _process(str(os.getpid()))
    return {OWNER_MACHINE: machine, OWNER_PROCESS: process} if machine and process else {}


def end_abandoned(client: "MlflowClient") -> list[str]:
    """Ends as KILLED the pipeline runs, with their steps', whose owner is dead, and returns their names."""
    machine = _machine()
    if not machine:
        return []
    ended = []
    try:
        with explained():
            experiments = [each.experiment_id for each in search_all(client.search_experiments)]
            running = f"attributes.status = 'RUNNING' and tags.`{OWNER_MACHINE}` = '{machine}'"
            found = list(search_all(client.search_runs, experiments, running)) if experiments else []
        for run in found:
            owner = run.data.tags.get(OWNER_PROCESS, "")
            if not re.fullmatch(r"\d+ \d+", owner) or _process(owner.partition(" ")[0]) == owner:
                continue
            end_with_steps(Run(client, run.info.run_id, run.info.experiment_id, None), "KILLED")
            ended.append(run.info.run_name)
            log.warning("The pipeline run %s was killed and could not say so; its record says it now.", ended[-1])
    except HeadstartError as error:
        # Who may only read the record reads it all the same.
        log.warning("The record of a run that was killed stays as it is: %s", error)
    return ended


def _machine() -> str:
    """This boot of this machine, and the namespace in which its processes have their numbers; "" where that is unknown.

    Containers share their machine's boot, but count processes on their own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process(number: str) -> str:
    """The living process `number` and when it was started, in ticks since boot; "" if there is none."""
    try:
        # The name before the last parenthesis may hold anything; behind it, state is the first field, start the 20th.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie is dead and waits for its parent to notice.
    return "" if fields[0] in "ZX" else f"{number} {fields[19]}"
