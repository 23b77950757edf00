"""Pipelines, their versions, and experiments."""

import functools
import uuid
from collections.abc import Mapping
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict, ParseError
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from tests.pipelines.cluster.kfp_server.store import Refused, Store, now


class Pipelines(Store):
    """What runs are made of."""

    def pipeline_service_list_pipelines(self, **query: str) -> dict[str, Any]:
        return self.page("pipelines", self.own(self.pipelines, query), query)

    def pipeline_service_create_pipeline(self, body: dict[str, Any]) -> dict[str, Any]:
        self.once(self.pipelines, body["display_name"])
        made = {**body, "pipeline_id": str(uuid.uuid4()), "created_at": now()}
        self.pipelines.append(made)
        return made

    def pipeline_service_list_pipeline_versions(self, pipeline_id: str, **query: str) -> dict[str, Any]:
        return self.page(
            "pipeline_versions", [each for each in self.versions if each["pipeline_id"] == pipeline_id], query
        )

    def pipeline_service_get_pipeline_version(self, pipeline_id: str, pipeline_version_id: str) -> dict[str, Any]:
        return self.one(self.versions, "pipeline_version_id", pipeline_version_id)

    def upload_pipeline_version(self, file: str, name: str, pipelineid: str, **_: Any) -> dict[str, Any]:
        self.one(self.pipelines, "pipeline_id", pipelineid)
        self.once(self.versions, name)
        made = {"pipeline_id": pipelineid, "pipeline_version_id": str(uuid.uuid4()), "display_name": name,
                "created_at": now(), "pipeline_spec": spec_of(file)}  # fmt: skip
        self.versions.append(made)
        return made

    def version_of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The pipeline version that a run or a schedule names."""
        reference = body["pipeline_version_reference"]
        version = self.one(self.versions, "pipeline_version_id", reference["pipeline_version_id"])
        assert version["pipeline_id"] == reference["pipeline_id"]
        return version

    def experiment_service_list_experiments(self, **query: str) -> dict[str, Any]:
        return self.page("experiments", self.own(self.experiments, query), query)

    def experiment_service_create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        self.once(self.experiments, body["display_name"])
        if self.multi_user and not body.get("namespace"):
            raise Refused(400, "Invalid input error: Namespace cannot be empty")
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": now()}
        self.experiments.append(made)
        return made


@functools.cache
def spec_of(package: str) -> dict[str, Any]:
    """Pipeline and platform of an uploaded file, in the form in which the API gives them back.

    Refused is what KFP's messages for them do not know, as its server refuses it.
    """
    documents = list(yaml.load_all(package, yaml.CSafeLoader))
    try:
        for document, message in zip(documents, (PipelineSpec(), PlatformSpec()), strict=False):
            ParseDict(document, message)
        executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if documents[1:] else {}
        for config in executors.values():
            ParseDict(config, KubernetesExecutorConfig())
    except ParseError as error:
        raise Refused(400, f"Invalid input error: Failed to parse the pipeline spec: {error}") from None
    return (
        documents[0] if len(documents) == 1 else dict(zip(("pipeline_spec", "platform_spec"), documents, strict=True))
    )
