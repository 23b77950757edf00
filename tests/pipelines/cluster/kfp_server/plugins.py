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
