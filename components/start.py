"""Starts a step in its pod, and starts it again where only its process was killed.

`python -m headstart_components.start MODULE …` runs a module as `python -m MODULE …` does. On a cluster that is a child
process: one that is killed, as by a kernel that is short of memory, goes on from its checkpoint while its pod still
stands. Kubeflow Pipelines 2.17 as it is installed retries a lost pod, but not a process that died in one. Where the
kernel ends all of a pod's processes at once, this one is among them, and the pod has failed.
"""

import atexit
import contextlib
import gc
import os
import runpy
import signal
import sys
import warnings
from types import FrameType

# How often; what goes on being killed needs another machine.
_RESTARTS = 2
# What nobody sends who wants a step to end.
_DEATHS = frozenset({signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
# What somebody sends who does. It is the step's to answer, which writes its checkpoint first.
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def survive() -> None:
    """Returns in a child process. This one waits for it, starts another if it is killed, and ends as the last did."""
    for left in range(_RESTARTS, -1, -1):
        sys.stdout.flush()
        sys.stderr.flush()
        # Until both sides have their own handlers, a signal waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        child = os.fork()
        if child == 0:
            # Of its own group, so that what is sent to the group of this process reaches it once, through this one.
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
    """Waits for the end of `child`, and passes on to it what asks this process to end.

    Returns:
        Its status, and whether it was told to end: then it may also be killed because it was slow.
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
    """Starts the step; on a cluster in a child process, but not for `headstart run`, which has made a parent run."""
    from headstart.tracking.runs import KFP_RUN_VARIABLE, PARENT_VARIABLE

    if os.environ.get(KFP_RUN_VARIABLE) and not os.environ.get(PARENT_VARIABLE):
        survive()
    # At its end Python would search all that torch and mlflow made for garbage, which takes a second or two.
    atexit.register(gc.freeze)
    # Pillow warns of files that it decodes well, or refuses.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
