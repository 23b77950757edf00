"""close_record: a pipeline run's record ends, whatever became of the run."""

from headstart_components import component
from headstart_components.types import PipelineTaskFinalStatus


@component
def close_record(experiment: str, status: PipelineTaskFinalStatus):
    """Ends the record of the pipeline run, and what steps could not end themselves.

    Args:
        experiment: the recipe's name.
        status: what became of the steps, from Kubeflow: COMPLETE (kfp.local says SUCCEEDED) or FAILED; of a run that
            was terminated it says that it is RUNNING.
    """
    from headstart.tracking.runs import close_record

    ended = {"COMPLETE": "FINISHED", "SUCCEEDED": "FINISHED", "FAILED": "FAILED"}
    close_record(experiment, ended.get(status.state, "KILLED"))
