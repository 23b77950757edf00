"""Recurring runs."""

import uuid
from typing import Any

from tests.pipelines.cluster.kfp_server.pipelines import Pipelines
from tests.pipelines.cluster.kfp_server.plugins import Plugins
from tests.pipelines.cluster.kfp_server.store import Refused, now


class Schedules(Pipelines, Plugins):
    """Recipes that run by the clock."""

    def recurring_run_service_create_recurring_run(self, body: dict[str, Any]) -> dict[str, Any]:
        self.see_plugins_input(body)
        self.one(self.experiments, "experiment_id", body["experiment_id"])
        self.version_of(body)
        if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise Refused(400, "Invalid input error: Schedule cron is not a supported format")
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "status": "ENABLED", "created_at": now()}
        self.recurring.append(made)
        return made

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
        return {}
