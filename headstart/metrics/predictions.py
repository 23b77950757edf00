"""Per-sample predictions as a Parquet file, from which every figure can be computed again.

Columns: `id` and, as readable class names, `label` and `predicted`; `probabilities` lists one number a class in the
order of the classes, which the schema's metadata holds as JSON under `classes`. `group` is there where items belong
together.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.errors import HeadstartError, InputError
from headstart.metrics.classification import check_predictions
from headstart.metrics.groups import groups_at
from headstart.storage.local import write_bytes

# Bounds the loss of an item to whose label a model gives no probability; single precision tells no less.
_LEAST = 1e-7
# Two evaluations of the same weights may give probabilities that differ by rounding; other weights give others.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions on one split."""

    ids: np.ndarray
    """str (N,), the samples' ids in the data set"""
    labels: np.ndarray
    """int64 (N,), indices into `classes`, or -1 where the samples have no labels"""
    probabilities: np.ndarray
    """float (N, K)"""
    classes: tuple[str, ...]
    """empty where the samples have no labels: then only `ids` says something"""
    groups: np.ndarray | None = None
    """str (N,): items of one name belong together, "" is an item alone; None where nothing is known of groups"""

    def save(self, path: Path) -> None:
        """Write the predictions atomically; `read_predictions` reads them back."""
        write_predictions(path, self.ids, self.labels, self.probabilities, self.classes, self.groups)

    @property
    def predicted(self) -> np.ndarray:
        """int (N,), the most probable class of each item, the first one where several are."""
        return self.probabilities.argmax(axis=1)

    @property
    def losses(self) -> np.ndarray:
        """-log of the probability of each item's label, float (N,)."""
        of_labels = self.probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)
        losses: np.ndarray = -np.log(np.clip(of_labels, _LEAST, 1.0))
        return losses

    def is_same(self, other: "Predictions") -> bool:
        """Whether another model gives each of the same items the same probabilities, but for rounding."""
        return np.allclose(self.probabilities, other.probabilities, rtol=0, atol=_ROUNDING)


def on_common_samples(predictions: Sequence[Predictions]) -> list[Predictions]:
    """The predictions for the samples that all of them have, in the order of their ids; copies of a file are one."""
    rows = [{name: row for row, name in enumerate(each.ids.tolist())} for each in predictions]
    ids = sorted(set.intersection(*(set(each) for each in rows)))
    chosen = [np.array([each[name] for name in ids], dtype=int) for each in rows]
    return [
        Predictions(
            each.ids[some],
            each.labels[some],
            each.probabilities[some],
            each.classes,
            groups_at(each.groups, some),
        )
        for each, some in zip(predictions, chosen, strict=True)
    ]


def joined(predictions: Sequence[Predictions]) -> Predictions:
    """The predictions for several sets of samples of the same classes in one."""
    first, groups = predictions[0], [each.groups for each in predictions]
    return Predictions(
        np.concatenate([each.ids for each in predictions]),
        np.concatenate([each.labels for each in predictions]),
        np.concatenate([each.probabilities for each in predictions]),
        first.classes,
        None if any(each is None for each in groups) else np.concatenate(groups),  # type: ignore[arg-type]
    )


def write_predictions(
    path: Path,
    ids: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None = None,
) -> None:
    """Write ids (N,), labels (N,), probabilities (N, K) and the names of `groups` (N,) atomically; the float type is
    kept. Without classes, only ids are written.

    An id may occur more than once: copies of a file are samples of their own with the same content. HeadstartError if
    the lengths differ, a class name occurs twice, or a label is outside `classes`.
    """
    if classes:
        check_predictions(labels, probabilities, len(classes))
    if len(ids) != len(labels):
        raise HeadstartError(
            f"{len(ids)} ids and {len(labels)} labels do not belong together; give one id for each item."
        )
    if len(set(classes)) != len(classes):
        raise HeadstartError("A class name occurs twice; predictions name their classes uniquely.")
    columns = {"id": pa.array([str(each) for each in ids], pa.string())}
    if classes:
        names = np.asarray(classes, dtype=object)
        flat = pa.array(np.ascontiguousarray(probabilities).ravel())
        columns |= {
            "label": pa.array(names[labels], pa.string()),
            "predicted": pa.array(names[probabilities.argmax(axis=1)], pa.string()),
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(classes)),
        }
        if groups is not None and (groups != "").any():
            columns["group"] = pa.array([str(each) or None for each in groups], pa.string())
    table = pa.table(columns).replace_schema_metadata({"classes": json.dumps(list(classes))})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_predictions(path: Path) -> Predictions:
    """The predictions that `write_predictions` wrote; InputError if the file is missing, damaged or of another kind."""
    try:
        table = pq.read_table(path)
        classes = tuple(json.loads(table.schema.metadata[b"classes"]))
        ids = np.array(table["id"].to_pylist(), dtype=str)
        if not classes:
            return Predictions(ids, np.full(len(ids), -1), np.empty((len(ids), 0), dtype=np.float32), ())
        index = {name: position for position, name in enumerate(classes)}
        labels = np.array([index[name] for name in table["label"].to_pylist()], dtype=np.int64)
        flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        probabilities = flat.reshape(len(labels), len(classes))
        named = table["group"].to_pylist() if "group" in table.column_names else None
        groups = None if named is None else np.array([each or "" for each in named], dtype=str)
    except FileNotFoundError:
        raise InputError(f"There are no predictions at {path}; evaluate the model first.") from None
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold predictions of headstart ({type(error).__name__}); evaluate the model again."
        ) from error
    return Predictions(ids, labels, probabilities, classes, groups)
