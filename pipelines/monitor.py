"""The pipeline `monitor`: a registered model against new samples, and a run that fails where it is to ring a bell."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from headstart_components.alarm.component import alarm
from headstart_components.monitor.component import monitor as monitor_step
from headstart_pipelines.placement import Placement


def build_monitor(placement: Placement) -> GraphComponent:
    """The pipeline, with its tasks placed."""

    @dsl.pipeline(name="monitor", description="Says whether new samples are as those that a model was tested on.")
    def monitor(model: str, data: str, tolerance: float, fail: bool) -> None:
        """Says whether new samples are as those that a model was tested on, and whether it is worse on them.

        Args:
            model: models:/name@alias, models:/name/version or models:/name.
            data: the reference of the new samples.
            tolerance: how much better than chance a classifier may tell new samples from old ones.
            fail: whether the run fails unless they are as before.
        """
        found = monitor_step(model=model, data=data, tolerance=tolerance)
        # The samples and the version behind an alias are those of the moment.
        placement.place(found, "monitor", cached=False)
        placement.place(alarm(state=found.outputs["Output"], fail=fail), "alarm", cached=False, retried=False)

    return monitor
