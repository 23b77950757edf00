"""Owner process of a pipeline run on a person's machine, kept in tags of its MLflow run.

A killed process cannot end its run, which would stay RUNNING for ever. A later process ends such a run as KILLED,
provided that its owner is certainly dead: same boot of the same machine, same process namespace. Runs of any other
owner are left alone.
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
    """Return tags that name this process as the owner of a run; empty on a system without /proc."""
    machine, process = _machine(), _process(str(os.getpid()))
    return {OWNER_MACHINE: machine, OWNER_PROCESS: process} if machine and process else {}


def end_abandoned(client: "MlflowClient") -> list[str]:
    """End as KILLED the pipeline runs, with their steps, whose owner is dead, and return their names."""
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
        # A user with read-only access can still read the record.
        log.warning("The record of a run that was killed stays as it is: %s", error)
    return ended


def _machine() -> str:
    """Return an id of this boot of this machine and of its process namespace; "" if unknown.

    Containers share their machine's boot id, but number processes separately.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process(number: str) -> str:
    """Return the number and start time (ticks since boot) of a living process; "" if there is none."""
    try:
        # The name, up to the last parenthesis, may contain anything. After it, the first field is the state, the 20th
        # the start.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie is dead and waits for its parent to collect it.
    return "" if fields[0] in "ZX" else f"{number} {fields[19]}"
