"""What a run's steps need, begun while the run is still being prepared."""

import contextlib
import os
from collections.abc import Iterator

from headstart.environment import environment
from headstart_pipelines.runner.processes import Processes
from headstart_pipelines.step_kinds import SPIN_COUNT
from headstart_pipelines.watchdog import watched


@contextlib.contextmanager
def workers() -> Iterator[Processes]:
    """Begin the watchdog and the warm process from which steps are forked."""
    settings = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT)}
    with watched() as mark, environment({**settings, **mark}), Processes() as processes:
        yield processes
