"""One of the processes that train together: torchrun runs python -m headstart.jobs.worker LOCATION FOLDER."""

import logging
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from headstart.jobs.exchange import Exchange
from headstart.jobs.job import received_job, send_result
from headstart.jobs.launch import ATTACHED, end_with_step
from headstart.signals import exiting_when_terminated
from headstart.training.distributed import Group, process_group
from headstart.training.progress import progress, write_record


# A terminated process ends as its step does, after its checkpoint is written.
@exiting_when_terminated()
def work(location: str, folder: str) -> None:
    """Take part in the job in `folder` of the state at `location`.

    The process of rank 0 alone reports and writes the result; each that fails leaves its error there.
    """
    rank = int(os.environ["RANK"])
    # As in a step, whose log this is a part of; what the others would say is the same, except for warnings.
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s")
    exchange = Exchange(location, folder)
    try:
        with process_group() as group:
            # The same on all machines; only the processes of one share it.
            place = Path(tempfile.gettempdir()) / f"headstart-{group.share(uuid.uuid4().hex)}"
            try:
                _work(exchange, group, place)
            finally:
                if group.local_rank == 0:
                    shutil.rmtree(place, ignore_errors=True)
    except Exception as error:
        exchange.write_error(rank, error)
        raise


def _work(exchange: Exchange, group: Group, place: Path) -> None:
    job, context = received_job(exchange, group, place)
    if group.rank > 0:
        job.run(context)
    else:
        send_result(job.run(replace(context, on_epoch=_report_epoch, progress=progress())), exchange)
    # Nobody leaves before the result is there: those that are left would take that for a failure.
    group.barrier()


def _report_epoch(epoch: int, metrics: dict[str, float]) -> None:
    write_record({"epoch": epoch, "metrics": metrics})


if __name__ == "__main__":
    if ATTACHED in sys.argv and os.environ["LOCAL_RANK"] == "0":
        end_with_step()
    work(sys.argv[1], sys.argv[2])
