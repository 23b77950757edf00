"""Types of a component's inputs and outputs: those of kfp where it is installed, otherwise stand-ins of the same form.

A step reads and writes artifacts by `name`, `uri`, `path` and `metadata`. Compiling a pipeline needs kfp; running a
compiled package does not.
"""

import importlib.util
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

__all__ = [
    "HTML", "Artifact", "ClassificationMetrics", "Dataset", "Input", "Metrics", "Model", "Output",
    "PipelineTaskFinalStatus",
]  # fmt: skip

if importlib.util.find_spec("kfp"):
    from kfp.dsl import (
        HTML,
        Artifact,
        ClassificationMetrics,
        Dataset,
        Input,
        Metrics,
        Model,
        Output,
        PipelineTaskFinalStatus,
    )
else:
    _Kind = TypeVar("_Kind")
    Input = Annotated[_Kind, "input"]
    Output = Annotated[_Kind, "output"]

    class Artifact:  # type: ignore[no-redef]
        """A file or folder that a step makes, with facts about it; `schema_title` is its type in a package."""

        schema_title = "system.Artifact"
        schema_version = "0.0.1"

        def __init__(self, name: str = "", uri: str = "", metadata: dict[str, Any] | None = None) -> None:
            self.name, self.uri, self.metadata = name, uri, metadata or {}

        @property
        def path(self) -> str:
            """The local path, which is the URI."""
            return self.uri

    class Dataset(Artifact):  # type: ignore[no-redef]
        """A data set."""

        schema_title = "system.Dataset"

    class Model(Artifact):  # type: ignore[no-redef]
        """A model."""

        schema_title = "system.Model"

    class HTML(Artifact):  # type: ignore[no-redef]
        """A page."""

        schema_title = "system.HTML"

    class Metrics(Artifact):  # type: ignore[no-redef]
        """Figures, which are the metadata."""

        schema_title = "system.Metrics"

    class ClassificationMetrics(Artifact):  # type: ignore[no-redef]
        """Figures of a classifier, which are the metadata."""

        schema_title = "system.ClassificationMetrics"

        def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
            """Put a matrix (K, K) of counts, rows being true classes, into the metadata."""
            self.metadata["confusionMatrix"] = {
                "annotationSpecs": [{"displayName": category} for category in categories],
                "rows": [{"row": row} for row in matrix],
            }

    @dataclass(frozen=True)
    class PipelineTaskFinalStatus:  # type: ignore[no-redef]
        """How a task ended: its state is SUCCEEDED or FAILED."""

        state: str
        pipeline_job_resource_name: str
        pipeline_task_name: str
        error_code: int | None
        error_message: str | None
