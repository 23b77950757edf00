"""The confusion matrix, the most frequent confusions, and the figures of each class."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.charts import heat, heat_paths
from headstart.judging.report.judgement import Context, Judgement

# Above this a matrix of numbers is a wall: the page draws it and lists what stands out.
_MANY_CLASSES = 20
_CONFUSIONS = 8


def section(judgement: Judgement) -> Context | None:
    if "confusion" not in judgement.metrics:
        return None
    classes = judgement.diagnostics.classes
    weakest = sorted(classes, key=lambda row: (row.support == 0, row.f1.value))[:10]
    return {**confusion(judgement.metrics), "classes": classes, "weakest": weakest}


def confusion(metrics: Mapping[str, Any]) -> Context:
    """The confusion matrix of `classification_metrics` as numbers and as a drawing, and its largest errors.

    `share` in `pairs` is of the true class's items.
    """
    names = [row["name"] for row in metrics["per_class"]]
    counts = np.array(metrics["confusion"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    right = np.eye(len(names), dtype=bool)
    pairs: list[dict[str, Any]] = [
        {
            "true": names[true],
            "predicted": names[predicted],
            "items": int(counts[true, predicted]),
            "share": float(shares[true, predicted]),
        }
        for true, predicted in np.argwhere((counts > 0) & ~right)
    ]
    pairs.sort(key=lambda pair: (-pair["items"], -pair["share"]))
    many = len(names) > _MANY_CLASSES
    return {
        "names": names,
        "counts": [] if many else metrics["confusion"],
        "heat": [] if many else heat(shares).tolist(),
        "pairs": pairs[:_CONFUSIONS],
        "errors": int(counts[~right].sum()),
        "many": many,
        "hits": heat_paths(shares * right) if many else [],
        "misses": heat_paths(shares * ~right) if many else [],
    }
