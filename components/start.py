"""Start of a step in its pod, with restarts if its process is killed.

`python -m headstart_components.start MODULE …` runs a module like `python -m MODULE …`. On a cluster the step is a
child process: if it is killed, for example because memory ran out, it is restarted in the same pod and resumes from its
checkpoint. Kubeflow Pipelines 2.17 as installed retries a lost pod, but not a process that died in one. If the kernel
kills all of a pod's processes at once, this one included, the pod fails.
"""

import contextlib
import os
import runpy
import signal
import sys
from types import FrameType

# Number of restarts; a process that keeps being killed needs another machine.
_RESTARTS = 2
# Signals of a crash or the kernel, not of a request to stop.
_DEATHS = frozenset({signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
# Requests to stop. They are passed on to the step, which writes its checkpoint before it ends.
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def survive() -> None:
    """Return in a child process. The parent waits for it, restarts it if it is killed, and exits with the status of the
    last."""
    for left in range(_RESTARTS, -1, -1):
        sys.stdout.flush()
        sys.stderr.flush()
        # Signals are blocked until both processes have their handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        child = os.fork()
        if child == 0:
            # Own process group, so that signals to the parent's group reach the child only once, through the parent.
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
            return
        status, told = _wait(child)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) in _DEATHS
        if not killed or told or not left:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
        name = signal.Signals(os.WTERMSIG(status)).name
        print(
            f"The step's process was killed ({name}) and is started again, from its checkpoint if it has one; "
            f"{left - 1} more times if need be. If memory ran out, give the step more of it, or a smaller batch_size.",
            file=sys.stderr,
            flush=True,
        )


def _wait(child: int) -> tuple[int, bool]:
    """Wait for the end of `child`, passing on requests to stop.

    Returns:
        Its status, and whether it was asked to stop; it may then have been killed for being slow.
    """
    told = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    status = os.waitpid(child, 0)[1]
    for number, handler in before.items():
        signal.signal(number, handler)
    return status, told


def main() -> None:
    """Start the step; on a cluster in a child process, unless `headstart run` is the caller, which has made a parent
    run."""
    from headstart.process import settle
    from headstart.tracking.runs import KFP_RUN_VARIABLE, PARENT_VARIABLE

    if os.environ.get(KFP_RUN_VARIABLE) and not os.environ.get(PARENT_VARIABLE):
        survive()
    settle()
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
