"""Registers bundles as a step does, each in a process of its own, and kills it where it is told to.

Run as a script it reads lines of JSON, each a list of jobs to do at once, and answers with the list of exit codes. What
a registration imports and looks up once takes seconds, so it is done once; a job is a fork.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from multiprocessing import Barrier
from multiprocessing.synchronize import Barrier as Meeting
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import requests

# A registration reads bundles, and what reads them imports torch, which takes longer than all of its requests.
import headstart.models.bundle  # noqa: F401
from headstart.tracking import serving
from headstart.tracking.client import connect
from headstart.tracking.registration import register
from headstart.tracking.runs import Run

_PATIENCE_SECONDS = 60


def _register(job: dict[str, Any]) -> None:
    client = connect()
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    run = Run(client, job["run"], client.get_run(job["run"]).info.experiment_id, None)
    register(
        run,
        Path(job["bundle"]),
        model=job["model"],
        evidence=Path(job["evidence"]),
        recipe=job["recipe"],
        aliases=("challenger",),
    )


def _kill_before(number: int) -> None:
    """Kills this process before it sends its request of that number, counting those that change something."""
    send, lock, sent = requests.Session.send, threading.Lock(), 0

    def counting(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        nonlocal sent
        with lock:
            sent += request.method != "GET" and not str(request.url).endswith("/search")
            if sent == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return send(session, request, **options)

    requests.Session.send = counting


def _meet_before(ending: str, meeting: Meeting) -> None:
    """Makes this process wait for the others before its first POST to an address that ends so."""
    send = requests.Session.send
    met = False

    def waiting(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        nonlocal met
        if not met and request.method == "POST" and str(request.url).endswith(ending):
            met = True
            meeting.wait(_PATIENCE_SECONDS)
        return send(session, request, **options)

    requests.Session.send = waiting


def _fork(job: dict[str, Any], meeting: Meeting) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        if "meet" in job:
            _meet_before(job["meet"], meeting)
        if job.get("kill"):
            _kill_before(job["kill"])
        _register(job)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _warm_up() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mlflow.pyfunc.save_model(f"{folder}/model", python_model=serving.__file__, pip_requirements=["headstart"])


def main() -> None:
    _warm_up()
    for line in sys.stdin:
        jobs = json.loads(line)
        meeting = Barrier(len(jobs))
        processes = [_fork(job, meeting) for job in jobs]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
