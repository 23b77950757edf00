"""The data of a run as MLflow shows them beside it: where each split came from, its digest, what it was used for."""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

    from headstart.data.dataset import Dataset

# MLflow's words for what a split is used for.
_CONTEXTS = {"train": "training", "val": "validation", "test": "evaluation"}
# MLflow holds digests of 36 characters.
_DIGEST = 36


def inputs_of(dataset: "Dataset", splits: Iterable[str]) -> "list[DatasetInput]":
    """The splits of a packed data set as inputs of a run; empty ones are left out."""
    from mlflow.entities import Dataset as Logged
    from mlflow.entities import DatasetInput, InputTag

    uri = str(dataset.manifest["source"]["uri"])
    address = urlsplit(uri)
    shared: dict[str, Any] = {
        "name": PurePosixPath(address.path).name or address.netloc,
        "source_type": address.scheme or "local",
        "source": json.dumps({"uri": uri}),
    }
    return [
        DatasetInput(
            Logged(
                digest=dataset.split_digest(split).removeprefix("sha256:")[:_DIGEST],
                profile=json.dumps({"samples": dataset.counts[split], "classes": len(dataset.classes)}),
                **shared,
            ),
            [InputTag("mlflow.data.context", _CONTEXTS[split])],
        )
        for split in splits
        if dataset.counts[split]
    ]
