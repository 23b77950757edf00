"""KFP's MLflow plugin."""

from collections.abc import Mapping
from typing import Any

from tests.pipelines.cluster.kfp_server.store import Refused, Store


class Plugins(Store):
    """What the plugin takes and gives."""

    def see_plugins_input(self, body: Mapping[str, Any]) -> None:
        """Releases before plugins refuse unknown fields, as KFP's marshaller is set to; the plugin reads its own."""
        given = body.get("plugins_input")
        if given is None:
            return
        if self.release.startswith(("2.15", "2.16", "master-old")):
            raise Refused(400, 'proto: (line 1:1): unknown field "plugins_input"')
        unknown = given["mlflow"].keys() - {"experiment_name", "experiment_id", "disabled"}
        if given.keys() != {"mlflow"} or unknown:
            self.problems.append(f"plugins_input is {given}")

    def plugins_output(self, body: Mapping[str, Any], run_id: str) -> dict[str, Any]:
        """What the plugin adds to a run that is created; it works unless it is told not to."""
        given = (body.get("plugins_input") or {}).get("mlflow", {})
        if given.get("disabled") or not (self.plugin or self.plugin_fails) or not self.release.startswith("2.17"):
            return {}
        experiment = {"experiment_name": {"value": given.get("experiment_name", "KFP-Default")}}
        if self.plugin_fails:
            # As the configuration that KFP ships does where nobody has changed it.
            failed = {"entries": experiment, "state": "PLUGIN_FAILED", "state_message": "MLflow did not answer"}
            return {"plugins_output": {"mlflow": failed}}
        page = f"http://mlflow.example.com/#/experiments/7/runs/{run_id[:8]}"
        entries = {
            "experiment_id": {"value": "7"},
            **experiment,
            "root_run_id": {"value": run_id.replace("-", "")},
            "run_url": {"value": page, "render_type": "URL"},
        }
        return {"plugins_output": {"mlflow": {"entries": entries, "state": "PLUGIN_SUCCEEDED"}}}
