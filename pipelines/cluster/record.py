"""MLflow's record of a run, brought in line with what Kubeflow Pipelines says of it."""

import logging
import os

from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError
from headstart.tracking.client import reach

# The words for runs that nothing happens in any more, and how MLflow calls them.
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "terminated": "KILLED", "lost": "KILLED"}

log = logging.getLogger(__name__)


def align(run: Run, word: str) -> None:
    """Ends the record of a run that is what `word` says; opens it again where that is `retried`.

    The run's last step ends it too, but is not started in a run that was terminated under Kubeflow Pipelines' own
    configuration, nor in one whose workflow was deleted. Nothing is done where MLFLOW_TRACKING_URI does not say where
    the record is, or nobody answers there: a run ends as well without.
    """
    from headstart.tracking.runs import close_record, reopen_record

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    experiment = ((run.runtime_config.parameters if run.runtime_config else None) or {}).get("name")
    if not uri or not experiment or not (word == "retried" or word in _STATUS):
        return
    ended = run.finished_at if run.finished_at and run.finished_at.year > 1970 else None
    try:
        reach(uri)
        if word == "retried":
            reopen_record(experiment, run.run_id)
        else:
            close_record(experiment, _STATUS[word], pipeline_run=run.run_id, ended=ended)
    except HeadstartError as error:
        log.info("The record of %s stays as it is: %s", run.display_name, error)
