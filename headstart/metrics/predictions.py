"""Per-sample predictions as a Parquet file, from which every figure can be computed again.

Columns: `id` and, as readable class names, `label` and `predicted`; `probabilities` lists one number a class in the
order of the classes, which the schema's metadata holds as JSON under `classes`. Of a regression `label` and `predicted`
are numbers, with the columns `deviation` and `margin`; of several labels an item they are lists of names, with the
labels that are not known of it in `unknown`, and the metadata have their `thresholds`. Of both the metadata have the
`task`. `group` is there where items belong together.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.errors import HeadstartError, InputError
from headstart.metrics.groups import count_groups, groups_at
from headstart.metrics.tally import score
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, Task
from headstart.storage.local import write_bytes

# Two evaluations of the same weights may give probabilities that differ by rounding; other weights give others.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions on one split."""

    ids: np.ndarray
    """str (N,), the samples' ids in the data set"""
    labels: np.ndarray
    """int64 (N,), indices into `classes`, or -1 where the samples have no labels; of a regression float64; of several
    labels int8 (N, K)"""
    outputs: np.ndarray
    """float (N, K), the probabilities of the classes; of a regression (N, 3): value, deviation, margin; of several
    labels (N, K, 2): probability and threshold"""
    classes: tuple[str, ...]
    """empty where the samples have no labels: then only `ids` says something"""
    groups: np.ndarray | None = None
    """str (N,): items of one name belong together, "" is an item alone; None where nothing is known of groups"""
    task: str = SINGLE_LABEL
    """the name of what is asked"""

    def save(self, path: Path) -> None:
        """Write the predictions atomically; `read_predictions` reads them back. Without classes, only ids are written.

        An id may occur more than once: copies of a file are samples of their own with the same content. HeadstartError
        if the lengths differ, a class name occurs twice, or a label is outside `classes`.
        """
        _write(path, self)

    @property
    def kind(self) -> Task:
        """The rules of the task."""
        return TASKS[self.task]

    @property
    def probabilities(self) -> np.ndarray:
        """The outputs where they are the probabilities of classes, float (N, K)."""
        return self.outputs

    @property
    def units(self) -> int:
        """The number of groups, an item alone being one."""
        return count_groups(self.groups) or len(self.ids)

    @property
    def predicted(self) -> np.ndarray:
        """int (N,), the most probable class of each item, the first one where several are; numbers, float (N,); of
        several labels float (N, K), how far each is above its threshold."""
        return self.kind.predicted(self.outputs)

    @property
    def losses(self) -> np.ndarray:
        """-log of the likelihood of each item's label, float (N,)."""
        return self.kind.losses(self.labels, self.outputs)

    @property
    def figures(self) -> dict[str, Any]:
        """Every metric by name, and what else the record keeps, as JSON values."""
        return self.kind.figures(self.labels, self.outputs, self.classes)

    def score(self, metric: str) -> float:
        """The metric of that name."""
        return score(metric, self.labels, self.predicted, len(self.classes))

    def at(self, items: np.ndarray) -> "Predictions":
        """Those for some of the items, given by their positions or a mask."""
        chosen = {name: getattr(self, name)[items] for name in ("ids", "labels", "outputs")}
        return replace(self, **chosen, groups=groups_at(self.groups, items))

    def is_same(self, other: "Predictions") -> bool:
        """Whether another model gives each of the same items the same outputs, but for rounding."""
        scale = float(np.abs(self.outputs[:, :2]).max(initial=0.0)) if self.task == REGRESSION else 1.0
        return np.allclose(self.outputs, other.outputs, rtol=0, atol=_ROUNDING * scale, equal_nan=True)


def on_common_samples(predictions: Sequence[Predictions]) -> list[Predictions]:
    """The predictions for the samples that all of them have, in the order of their ids; copies of a file are one."""
    rows = [{name: row for row, name in enumerate(each.ids.tolist())} for each in predictions]
    ids = sorted(set.intersection(*(set(each) for each in rows)))
    chosen = [np.array([each[name] for name in ids], dtype=int) for each in rows]
    return [each.at(some) for each, some in zip(predictions, chosen, strict=True)]


def joined(predictions: Sequence[Predictions]) -> Predictions:
    """The predictions for several sets of samples of the same classes in one."""
    first, groups = predictions[0], [each.groups for each in predictions]
    return Predictions(
        np.concatenate([each.ids for each in predictions]),
        np.concatenate([each.labels for each in predictions]),
        np.concatenate([each.outputs for each in predictions]),
        first.classes,
        None if any(each is None for each in groups) else np.concatenate(groups),  # type: ignore[arg-type]
        first.task,
    )


def _write(path: Path, found: Predictions) -> None:
    ids, classes = found.ids, found.classes
    if classes:
        found.kind.check(found.labels, found.outputs, len(classes))
    if len(ids) != len(found.labels):
        raise HeadstartError(
            f"{len(ids)} ids and {len(found.labels)} labels do not belong together; give one id for each item."
        )
    if len(set(classes)) != len(classes):
        raise HeadstartError("A class name occurs twice; predictions name their classes uniquely.")
    columns = {"id": pa.array([str(each) for each in ids], pa.string())}
    if classes:
        columns |= _COLUMNS[found.task](found)
        if found.groups is not None and (found.groups != "").any():
            columns["group"] = pa.array([str(each) or None for each in found.groups], pa.string())
    named = {"classes": json.dumps(list(classes))} | ({} if found.task == SINGLE_LABEL else {"task": found.task})
    if found.task == MULTI_LABEL and len(found.outputs):
        named["thresholds"] = json.dumps(found.outputs[0, :, 1].tolist())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(named), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def _shares(found: Predictions) -> dict[str, pa.Array]:
    names = np.asarray(found.classes, dtype=object)
    flat = pa.array(np.ascontiguousarray(found.outputs).ravel())
    return {
        "label": pa.array(names[found.labels], pa.string()),
        "predicted": pa.array(names[found.predicted], pa.string()),
        "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(found.classes)),
    }


def _numbers(found: Predictions) -> dict[str, pa.Array]:
    columns = zip(("predicted", "deviation", "margin"), found.outputs.T, strict=True)
    return {"label": pa.array(found.labels)} | {name: pa.array(each) for name, each in columns}


def _several(found: Predictions) -> dict[str, pa.Array]:
    names = np.asarray(found.classes, dtype=object)

    def named(chosen: np.ndarray) -> pa.Array:
        return pa.array([names[row].tolist() for row in chosen], pa.list_(pa.string()))

    flat = pa.array(np.ascontiguousarray(found.outputs[:, :, 0]).ravel())
    return {
        "label": named(found.labels == 1),
        "unknown": named(found.labels < 0),
        "predicted": named(found.predicted >= 0),
        "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(found.classes)),
    }


def _read_several(table: pa.Table, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    labels = marked(table["label"].to_pylist(), classes)
    labels[marked(table["unknown"].to_pylist(), classes) == 1] = -1
    chances = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(labels.shape)
    thresholds = np.array(json.loads(table.schema.metadata[b"thresholds"]), dtype=chances.dtype)
    return labels, np.stack([chances, np.broadcast_to(thresholds, chances.shape)], axis=2)


def marked(named: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """Lists of labels as int8 (N, K), 1 where an item has one. KeyError for a label that is not of `classes`."""
    index = {name: position for position, name in enumerate(classes)}
    marks = np.zeros((len(named), len(classes)), dtype=np.int8)
    for row, names in enumerate(named):
        marks[row, [index[name] for name in names]] = 1
    return marks


_COLUMNS = {SINGLE_LABEL: _shares, REGRESSION: _numbers, MULTI_LABEL: _several}


def read_predictions(path: Path) -> Predictions:
    """The predictions that `Predictions.save` wrote; InputError if the file is missing, damaged or of another kind."""
    try:
        table = pq.read_table(path)
        classes = tuple(json.loads(table.schema.metadata[b"classes"]))
        task = TASKS.require(table.schema.metadata.get(b"task", SINGLE_LABEL.encode()).decode())
        ids = np.array(table["id"].to_pylist(), dtype=str)
        if not classes:
            return Predictions(ids, np.full(len(ids), -1), np.empty((len(ids), 0), dtype=np.float32), ())
        if task == REGRESSION:
            labels = table["label"].to_numpy().astype(np.float64)
            outputs = np.stack([table[name].to_numpy() for name in ("predicted", "deviation", "margin")], axis=1)
        elif task == MULTI_LABEL:
            labels, outputs = _read_several(table, classes)
        else:
            index = {name: position for position, name in enumerate(classes)}
            labels = np.array([index[name] for name in table["label"].to_pylist()], dtype=np.int64)
            flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            outputs = flat.reshape(len(labels), len(classes))
        named = table["group"].to_pylist() if "group" in table.column_names else None
        groups = None if named is None else np.array([each or "" for each in named], dtype=str)
    except FileNotFoundError:
        raise InputError(f"There are no predictions at {path}; evaluate the model first.") from None
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold predictions of headstart ({type(error).__name__}); evaluate the model again."
        ) from error
    return Predictions(ids, labels, outputs, classes, groups, task)
