"""Recurring runs."""

import uuid
import zlib
from datetime import datetime, timedelta
from typing import Any

from tests.pipelines.cluster.kfp_server.runs import Runs
from tests.pipelines.cluster.kfp_server.store import Refused
from tests.pipelines.cluster.kfp_server.workflows import START


class Schedules(Runs):
    """Recipes that run by the clock: at the ticks that a test says there are."""

    def recurring_run_service_create_recurring_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self.see_plugins_input(body)
        self.one(self.experiments, "experiment_id", body["experiment_id"])
        self.version_of(body)
        if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise Refused(400, "Invalid input error: Schedule cron is not a supported format")
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refused(400, "Invalid input error: The max concurrency of the job is out of range. Support 1-10")
        made = {"namespace": "kubeflow", **body, "recurring_run_id": str(uuid.uuid4()), "status": "ENABLED"}
        made |= {"created_at": START.isoformat(), "updated_at": START.isoformat()}
        self.recurring.append(made)
        return made

    def tick(self, at: datetime) -> None:
        """The controller's work at a tick of every schedule."""
        for schedule in self.recurring:
            runs = [run for run in self.runs if run.get("recurring_run_id") == schedule["recurring_run_id"]]
            going = [run for run in runs if not self.workflows[run["run_id"]].is_final]
            # Of a schedule with `plugins_input` the workflow and its parameters are not kept: no run of it can start.
            if (
                schedule["status"] != "ENABLED"
                or "plugins_input" in schedule
                or len(going) >= int(schedule["max_concurrency"])
            ):
                continue
            name = f"{schedule['display_name'].lower()}czlzn-{len(runs) + 1}"
            kept = ("experiment_id", "pipeline_version_reference", "runtime_config", "service_account")
            body = {key: schedule[key] for key in kept if key in schedule}
            self.begin(
                str(uuid.uuid4()), body, created=at + timedelta(seconds=20), scheduled_at=at.isoformat(),
                display_name=f"{name}-{zlib.crc32(name.encode())}", recurring_run_id=schedule["recurring_run_id"],
            )  # fmt: skip

    def recurring_run_service_list_recurring_runs(self, **query: str) -> dict[str, Any]:
        return self.page("recurringRuns", self.own(self.recurring, {}), query)

    def recurring_run_service_get_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        return self.one(self.recurring, "recurring_run_id", recurring_run_id)

    def recurring_run_service_disable_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        self.one(self.recurring, "recurring_run_id", recurring_run_id)["status"] = "DISABLED"
        return {}

    def recurring_run_service_enable_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        self.one(self.recurring, "recurring_run_id", recurring_run_id)["status"] = "ENABLED"
        return {}

    def recurring_run_service_delete_recurring_run(self, recurring_run_id: str) -> dict[str, Any]:
        self.recurring.remove(self.one(self.recurring, "recurring_run_id", recurring_run_id))
        for run in self.runs:
            if run.get("recurring_run_id") == recurring_run_id and not self.workflows[run["run_id"]].is_final:
                # Its workflow is deleted with its owner, and nobody tells the run.
                self.workflows[run["run_id"]].end = "RUNNING"
        return {}
