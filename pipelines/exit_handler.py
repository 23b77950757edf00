"""The exit handler of a pipeline: a task that always runs and closes the record."""

from contextlib import AbstractContextManager
from typing import Any

from kfp import dsl

from headstart_components.close_record.component import close_record
from headstart_pipelines.placement import Placement


def closed_record(placement: Placement, name: Any) -> AbstractContextManager[Any]:
    """Everything that is added within is followed by the end of the record of the experiment `name`, also where it
    fails."""
    closing = close_record(experiment=name)
    # It is about this very run.
    placement.place(closing, "close record", cached=False)
    return dsl.ExitHandler(closing, name="recorded")
