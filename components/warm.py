"""Steps on this machine: one warm process that has imported everything, and a forked process for each step.

`python -m headstart_components.warm fork N [MODULE …]` imports the modules, by default all that steps need, and reads
requests from the socket with the file descriptor N: each is a byte with two descriptors, of the file that the step
writes to and of the request in JSON. It answers with a line of JSON for each step's process id and, when the step ends,
its exit status. It ends when the socket closes.

`python -m headstart_components.warm fresh` runs the one step whose request is standard input's, without a fork: where
forking is unsafe, as on macOS.

A fork copies only the thread that forks, and a lock that another thread held is never released: so nothing is computed
before a fork, and OpenMP and OpenBLAS are started with one thread. A step sets its number of threads itself.
"""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import selectors
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# What steps import, the first needed first.
MODULES = (
    "headstart.tracking.runs",
    "headstart.tracking.system_metrics",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.db.utils",
    "mlflow.store.artifact.local_artifact_repo",
    "pandas",
    "pyarrow.parquet",
    "headstart.data.prepare",
    "headstart.data.finished",
    "headstart.modalities.image",
    "torch",
    "headstart.tracking.registration",
    "headstart.jobs.job",
    "headstart.judging.source_evaluation",
    "sklearn.linear_model",
    "sklearn.svm",
    "sklearn.pipeline",
    "headstart.judging.selection",
    "headstart.tracking.evaluation",
    "captum.attr",
    "torchvision",
    "headstart.judging.baselines",
    "headstart.strategies.methods",
    "mlflow.pyfunc",
    "mlflow.pytorch",
)


# Steps that begin before all is imported, and the last module that they need.
_ENOUGH = {
    "headstart_components.close_record.component": "mlflow.store.db.utils",
    "headstart_components.prepare_data.component": "headstart.modalities.image",
    # The first two steps to run where all that trains is reused.
    "headstart_components.register.component": "headstart.tracking.registration",
    "headstart_components.evaluate.component": "captum.attr",
}


def main(mode: str, *options: str) -> None:
    """Serve requests, or run one."""
    os.environ["_KFP_RUNTIME"] = "true"
    if mode == "fresh":
        run_step(json.load(sys.stdin))
        return
    with socket.socket(fileno=int(options[0])) as control:
        request = _serve(control, options[1:] or MODULES)
    if request is None:
        _leave(0)
    # In a forked process.
    try:
        run_step(request)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            _leave(ended.code or 0)
        print(ended.code, file=sys.stderr)
        _leave(1)
    except BaseException:
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _leave(status: int) -> NoReturn:
    """End this process as Python does, but for taking down all that was imported, which is half a second's work: it
    writes to each page that the process shares with others."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_step(request: Mapping[str, Any]) -> None:
    """Run a step in this process.

    Args:
        request: `module` and `function` of the component, its executor `input`, the number of `threads`.
    """
    from headstart.process import settle
    from headstart_components.executor import execute

    settle()
    logging.basicConfig(
        stream=sys.stdout, format="[%(asctime)s %(levelname)s]: %(message)s", level=logging.INFO, force=True
    )
    _limit_threads(int(request["threads"]))
    function = getattr(importlib.import_module(request["module"]), request["function"])
    execute(function, request["input"])


def _limit_threads(count: int) -> None:
    from threadpoolctl import threadpool_limits

    # For libraries that are yet to be loaded; the others are told.
    os.environ["OMP_NUM_THREADS"] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    threadpool_limits(count)


def _serve(control: socket.socket, modules: Sequence[str]) -> dict[str, Any] | None:
    """Import `modules`, then fork for each request; return it in the forked process, and None in this one when the
    socket closes."""
    # Searching for garbage among what imports make is a fifth of their time, and would copy pages that forks share.
    gc.disable()
    left, pending = list(modules), list[tuple[dict[str, Any], int]]()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(0 if left else None):
                if key.fileobj is not control:
                    _report(control, selector, key)
                elif (received := _receive(control)) is None:
                    return None
                else:
                    pending.append(received)
            if left:
                _import(left.pop(0))
            for each in [each for each in pending if _is_ready(each[0], left)]:
                pending.remove(each)
                request, output = each
                child = os.fork()
                if child == 0:
                    # Whoever reads another step's output waits for all who could write it.
                    for _, other in pending:
                        os.close(other)
                    _become_step(request, output)
                    return request
                os.close(output)
                selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, request["id"]))
                _send(control, {"id": request["id"], "pid": child})


def _is_ready(request: Mapping[str, Any], left: Sequence[str]) -> bool:
    """Whether what a step needs is imported, `left` being what is not."""
    enough = _ENOUGH.get(request["module"])
    return not left or (enough is not None and enough not in left)


def _receive(control: socket.socket) -> tuple[dict[str, Any], int] | None:
    """A request and the descriptor for its output; None when the socket has closed."""
    data, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    if not data:
        return None
    output, content = descriptors
    with open(content, "rb") as file:
        file.seek(0)
        return json.load(file), output


def _import(name: str) -> None:
    """Import a module; one whose extra is not installed is left to the step that needs it, which says so."""
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
    gc.freeze()


def _report(control: socket.socket, selector: selectors.BaseSelector, ended: selectors.SelectorKey) -> None:
    child, number = ended.data
    selector.unregister(ended.fd)
    os.close(ended.fd)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _send(control, {"id": number, "status": status})


def _send(control: socket.socket, message: Mapping[str, Any]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def _become_step(request: Mapping[str, Any], output: int) -> None:
    """Make a forked process a step's: with a session, a standard output and an environment of its own."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for descriptor in (nothing, output):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ["_KFP_RUNTIME"] = "true"
    gc.enable()
    # The folder that the warm process found may be another.
    tempfile.tempdir = None
    import numpy as np

    np.random.seed()


if __name__ == "__main__":
    main(*sys.argv[1:])
