"""Runs: created, told, retried, terminated; their workflows and logs."""

import copy
import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.pipelines.cluster.kfp_server import recordings
from tests.pipelines.cluster.kfp_server.pipelines import Pipelines
from tests.pipelines.cluster.kfp_server.plugins import Plugins
from tests.pipelines.cluster.kfp_server.store import Refused
from tests.pipelines.cluster.kfp_server.types import check_parameters, mistyped
from tests.pipelines.cluster.kfp_server.workflows import START, UNFINISHED, Workflow

# What the launcher and KFP's executor write around a step's own lines.
BEFORE = """I0301 03:00:06.786379      15 main.go:67] Setting log level to: '1'
[KFP Executor 2026-03-01 03:00:07,006 INFO]: Looking for component `step` in --component_module_path `/tmp/step.py`
[KFP Executor 2026-03-01 03:00:07,010 INFO]: Got executor_input:
{
    "inputs": {
        "parameterValues": {}
    }
}
"""
AFTER = """[KFP Executor 2026-03-01 03:00:17,341 INFO]: Wrote executor output file to /minio/output_metadata.json.
I0301 03:00:17.816574      15 launcher_v2.go:1230] ExecutorOutput: {
  "artifacts": {}
}
I0301 03:00:17.962452      15 launcher_v2.go:206] publish success.
"""


class Runs(Pipelines, Plugins):
    """Runs, which advance by one step whenever somebody looks at them."""

    def run_service_create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self.see_plugins_input(body)
        self.one(self.experiments, "experiment_id", body["experiment_id"])
        run_id = str(uuid.uuid4())
        return self.begin(run_id, body, created=START, **self.plugins_output(body, run_id))

    def begin(self, run_id: str, body: Mapping[str, Any], *, created: datetime, **more: Any) -> dict[str, Any]:
        """Makes the workflow of a run, and the run."""
        version = self.version_of(body)
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        given = body.get("runtime_config", {}).get("parameters")
        check_parameters(spec, given)
        at = created.isoformat()
        made = {**body, "run_id": run_id, "created_at": at, "scheduled_at": at, "finished_at": UNFINISHED,
                "state": "PENDING", "state_history": [{"update_time": at, "state": "PENDING"}], **more}  # fmt: skip
        self.workflows[run_id] = self.workflow(spec, given or {})
        self.runs.append(made)
        return made

    def workflow(self, spec: dict[str, Any], given: dict[str, Any]) -> Workflow:
        """The workflow of a pipeline with parameters; steps that are given what they do not take fail."""
        declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        defaults = {name: each["defaultValue"] for name, each in declared.items() if "defaultValue" in each}
        made = Workflow(
            f"{spec['pipelineInfo']['name']}-x7k2p", spec, {**defaults, **given}, self.fails, self.reused,
            is_wrapped=self.is_wrapped, held=self.held, queues=self.queues,
        )  # fmt: skip
        wrong = set(mistyped(spec))
        made.stuck = frozenset(each.label for each in made.places if each.task["componentRef"]["name"] in wrong)
        return made

    def replay(self, case: str) -> dict[str, Any]:
        """A run that was recorded on a real server, which is answered as it was there."""
        run = copy.deepcopy(recordings.run(case))
        if run["run_id"] in self.recorded:
            # The same run at another moment.
            run["run_id"] = str(uuid.uuid4())
        self.runs.append(run)
        self.recorded[run["run_id"]] = recordings.workflow(case)
        return run

    def run_service_get_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        run = self.one(self.runs, "run_id", run_id)
        if run_id in self.recorded:
            return run
        workflow = self.workflows[run_id]
        workflow.advance()
        self.looked(workflow)
        self._tell(run, workflow.state)
        answer = {**run, "run_details": {"task_details": workflow.details()}}
        if workflow.is_final:
            ended = START + timedelta(seconds=100 * workflow.at)
            run["finished_at"] = answer["finished_at"] = ended.isoformat()
        return answer

    def run_service_list_runs(self, **query: str) -> dict[str, Any]:
        runs = self.own(self.runs, {}) if "namespace" in query else self.runs
        if experiment := query.get("experiment_id"):
            runs = [each for each in runs if each["experiment_id"] == experiment]
        assert query.get("sort_by") in (None, "created_at desc")
        return self.page("runs", runs[::-1], query)

    def run_service_retry_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        run = self.one(self.runs, "run_id", run_id)
        workflow = self.workflows[run_id]
        if run["state"] not in ("FAILED", "CANCELED"):
            raise Refused(400, f"Bad request: workflow {workflow.name} is not in a failed state")
        workflow.at = min((index for index in workflow.failing if index < workflow.at), default=workflow.at) - 1
        self.failures -= 1
        workflow.fails, workflow.end = workflow.fails if self.failures > 0 else None, None
        self._tell(run, "RUNNING")
        return {}

    def run_service_terminate_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        run = self.one(self.runs, "run_id", run_id)
        workflow = self.workflows[run_id]
        if workflow.is_final:
            raise Refused(400, f"Failed to terminate run {run_id}: it has ended")
        # It is FAILED only after Argo has ended its pods.
        workflow.end = "CANCELING"
        self._tell(run, "CANCELING")
        return {}

    def _tell(self, run: dict[str, Any], state: str) -> None:
        if run["state"] != state:
            run["state"] = state
            at = self.workflows[run["run_id"]].now + timedelta(seconds=50 * (state == "CANCELING"))
            run["finished_at"] = UNFINISHED
            run["state_history"].append({"update_time": at.isoformat(), "state": state})

    # What kfp_server_api has no name for.

    def read_log(self, run_id: str, pod: str) -> str:
        """The text that a pod wrote, or, as KFP says it, with status 200, that there is none."""
        label = self.workflows[run_id].pods().get(pod) if run_id in self.workflows else None
        if label is None or pod in self.gone:
            said = (
                f"BadRequestError: Failed to read logs for run {run_id}: NoSuchKey: The specified key does not exist."
            )
            return json.dumps({"error_message": said, "error_details": said})
        if self.is_raw:
            return self.log
        return f"{BEFORE}log of {label}\n{self.log}{AFTER}"

    def workflow_of(self, run_id: str) -> dict[str, Any]:
        """A run as the API of release 1 gives it."""
        run = self.one(self.runs, "run_id", run_id)
        manifest = self.recorded[run_id] if run_id in self.recorded else self.workflows[run_id].manifest()
        return {
            "run": {"id": run_id, "name": run["display_name"]},
            "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)},
        }
