"""A run is terminated, and seen to its end."""

from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.follow import Clock
from headstart_pipelines.cluster.record import align
from headstart_pipelines.cluster.runs import FINAL, word_of
from headstart_pipelines.cluster.transport import UnansweredError

_POLL_SECONDS = 2.0
# A step has 30 seconds to write its checkpoint, and Argo looks every ten.
_PATIENCE_SECONDS = 180.0


def stop(server: Server, run: Run, clock: Clock) -> Run:
    """Terminates a run unless somebody has, and returns it as it ended, its record closed.

    Raises:
        HeadstartError: it has not ended after minutes.
    """
    if run.state != "CANCELING":
        server.runs.run_service_terminate_run(run.run_id)
    since = clock.now()
    while (clock.now() - since).total_seconds() < _PATIENCE_SECONDS:
        try:
            run = server.runs.run_service_get_run(run.run_id)
        except UnansweredError:
            clock.sleep(_POLL_SECONDS)
            continue
        if run.state in FINAL:
            align(run, word_of(run))
            return run
        clock.sleep(_POLL_SECONDS)
    raise HeadstartError(
        f"The run {run.display_name} was told to end and has not for {_PATIENCE_SECONDS:g} seconds; `headstart runs "
        f"{run.run_id}` says when it has."
    )
