"""Runs: created, told, retried, terminated; their workflows and logs."""

import uuid
from datetime import timedelta
from typing import Any

from tests.pipelines.cluster.kfp_server.pipelines import Pipelines
from tests.pipelines.cluster.kfp_server.plugins import Plugins
from tests.pipelines.cluster.kfp_server.store import Refused
from tests.pipelines.cluster.kfp_server.workflows import START, Workflow, places


class Runs(Pipelines, Plugins):
    """Runs, which advance by one step whenever somebody looks at them."""

    def run_service_create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self.see_plugins_input(body)
        self.one(self.experiments, "experiment_id", body["experiment_id"])
        version = self.version_of(body)
        run_id = str(uuid.uuid4())
        made = {**body, "run_id": run_id, "created_at": START.isoformat(), "state": "PENDING"}
        if self.plugin_fails and "plugins_input" in body:
            made["plugins_output"] = {"mlflow": {"state": "PLUGIN_FAILED", "state_message": "MLflow did not answer"}}
        elif self.plugin and "plugins_input" in body:
            address = {"value": f"http://mlflow.example.com/#/experiments/7/runs/{run_id[:8]}", "render_type": "URL"}
            made["plugins_output"] = {"mlflow": {"state": "PLUGIN_SUCCEEDED", "entries": {"run_url": address}}}
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        steps = list(places(spec, spec["root"]["dag"], "root", "", body["runtime_config"]["parameters"]))
        self.workflows[run_id] = Workflow(
            f"{spec['pipelineInfo']['name']}-x7k2p",
            [label for label, _ in steps],
            [path for _, path in steps],
            self.fails,
            self.reused,
        )
        self.runs.append(made)
        return made

    def run_service_get_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        run = self.one(self.runs, "run_id", run_id)
        workflow = self.workflows[run_id]
        self.looked(workflow)
        run["state"] = workflow.state
        answer = {**run, "run_details": {"task_details": workflow.details()}}
        if workflow.is_final:
            run["finished_at"] = answer["finished_at"] = (START + timedelta(seconds=100 * workflow.at)).isoformat()
        else:
            workflow.at += 1
        return answer

    def run_service_list_runs(self, **query: str) -> dict[str, Any]:
        runs = self.own(self.runs, {}) if "namespace" in query else self.runs
        if experiment := query.get("experiment_id"):
            runs = [each for each in runs if each["experiment_id"] == experiment]
        assert query.get("sort_by") in (None, "created_at desc")
        return self.page("runs", runs[::-1], query)

    def run_service_retry_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        workflow = self.workflows[self.one(self.runs, "run_id", run_id)["run_id"]]
        workflow.at = workflow.labels.index(workflow.fails) if workflow.fails else workflow.at
        workflow.fails = workflow.end = None
        return {}

    def run_service_terminate_run(self, run_id: str, **_: Any) -> dict[str, Any]:
        self.workflows[self.one(self.runs, "run_id", run_id)["run_id"]].end = "CANCELED"
        return {}

    def workflow_of(self, run_id: str) -> dict[str, Any]:
        """A run as the API of release 1 gives it."""
        run = self.one(self.runs, "run_id", run_id)
        manifest = self.workflows[run_id].manifest()
        return {"run": {"id": run_id, "name": run["display_name"]}, "pipeline_runtime": {"workflow_manifest": manifest}}

    def read_log(self, run_id: str, pod: str) -> str:
        """The text that a pod wrote."""
        label = self.workflows[run_id].pods().get(pod)
        if label is None:
            raise Refused(500, f"Failed to read logs from pod {pod}")
        return f"log of {label}\n{self.log}"
