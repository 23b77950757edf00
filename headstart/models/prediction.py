"""Predictions: a model's answers for samples that belong to no data set."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headstart.data.several import NONE
from headstart.data.task import SEPARATOR
from headstart.errors import InputError
from headstart.figures import figure
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.modalities import UnreadableSample, modality
from headstart.models.bundle import ModelBundle
from headstart.models.inputs import RawSample
from headstart.storage import s3
from headstart.storage.local import write_bytes

# Objects in S3 are waited for, and the decoders release the interpreter's lock.
_READERS = s3.CONNECTIONS

# Spreadsheets take a cell that begins so for a formula, which can read other cells and call programs; not a number.
_FORMULA = re.compile(r"[=+\-@\t\r](?!\d+(\.\d+)?$)")


def predict(bundle: ModelBundle, samples: Iterable[RawSample], *, batch_size: int = 256) -> Iterator[pd.DataFrame]:
    """For each batch of samples a table with one row each: path, the columns of `answers`, error.

    A sample that cannot be read has the reason in `error` and no label. No more than a batch is in memory.
    InputError if the model knows no classes.
    """
    bundle.require_head()
    kind = modality(bundle.modality)
    given = bundle.preprocessing.given

    def decode(sample: RawSample) -> np.ndarray | str:
        try:
            return kind.decode(sample.read(), given).values
        except UnreadableSample as reason:
            return str(reason)

    samples = iter(samples)
    with ThreadPoolExecutor(_READERS) as pool:
        while batch := list(islice(samples, batch_size)):
            decoded = list(pool.map(decode, batch))
            readable = [index for index, outcome in enumerate(decoded) if not isinstance(outcome, str)]
            arrays = [values for values in decoded if not isinstance(values, str)]
            table = answers(bundle, bundle.predict_outputs(arrays, batch_size))
            table = table.set_axis(readable).reindex(range(len(batch)))
            table.insert(0, "path", [sample.name for sample in batch])
            yield table.assign(error=[outcome if isinstance(outcome, str) else "" for outcome in decoded])


def answers(bundle: ModelBundle, outputs: np.ndarray) -> pd.DataFrame:
    """A model's outputs (N, ...) as a table with one row a sample. Of probabilities it has the columns label,
    probability (of that label) and p_<class> …; of several labels `labels`, those that are given with a ; between them,
    or none, and p_<label> …; of numbers value, low and high, between which 90% of new samples lie.

    `headstart predict` and the served model both answer so.
    """
    if bundle.task == REGRESSION:
        value, margin = outputs[:, 0].astype(np.float64), outputs[:, 2].astype(np.float64)
        return pd.DataFrame(dict(zip(answer_columns(bundle), (value, value - margin, value + margin), strict=True)))
    if bundle.task == MULTI_LABEL:
        table = pd.DataFrame(outputs[:, :, 0].astype(np.float64), columns=probability_columns(bundle.classes))
        table.insert(0, "labels", named_labels(bundle.kind.predicted(outputs) >= 0, bundle.classes))
        return table
    probabilities = outputs
    columns = probability_columns(bundle.classes)
    table = pd.DataFrame(probabilities.astype(np.float64), columns=columns)
    table.insert(0, "label", np.array(bundle.classes, dtype=object)[probabilities.argmax(axis=1)])
    table.insert(1, "probability", probabilities.max(axis=1).astype(np.float64))
    return table


def named_labels(given: np.ndarray, names: Sequence[str]) -> list[str]:
    """The labels of each sample that has some, bool (N, K), as data sets write them: `circle;red`, or `none`."""
    all_names = np.array(names, dtype=object)
    return [SEPARATOR.join(all_names[row]) or NONE for row in given]


def in_short(bundle: ModelBundle, row: Mapping[Hashable, Any]) -> list[str]:
    """A row of `answers` as two texts: the class and its probability, the labels and theirs, or the number and its
    interval."""
    if bundle.task == REGRESSION:
        told = math.isfinite(row["low"])
        return [figure(row["value"]), f"[{figure(row['low'])}, {figure(row['high'])}]" if told else "-"]
    if bundle.task == MULTI_LABEL:
        columns = dict(zip(bundle.classes, probability_columns(bundle.classes), strict=True))
        given = row["labels"].split(SEPARATOR) if row["labels"] != NONE else []
        return [row["labels"], SEPARATOR.join(f"{row[columns[name]]:.3f}" for name in given) or "-"]
    return [row["label"], f"{row['probability']:.3f}"]


def answer_columns(bundle: ModelBundle) -> list[str]:
    """The names of the numbers that answer for one sample."""
    if bundle.task == REGRESSION:
        return ["value", "low", "high"]
    if bundle.task == MULTI_LABEL:
        return probability_columns(bundle.classes)
    return ["probability", *probability_columns(bundle.classes)]


def probability_columns(classes: Sequence[str]) -> list[str]:
    """p_<class> for each class; its number follows where classes share a name, as two of ImageNet's cranes do."""
    times = Counter(classes)
    return [f"p_{name}" if times[name] == 1 else f"p_{name}_{number}" for number, name in enumerate(classes)]


def table_format(name: str) -> str:
    """The ending of a table's name: .csv, .json or .parquet; InputError for any other."""
    suffix = Path(name).suffix
    if suffix not in (".csv", ".json", ".parquet"):
        raise InputError(f"-o {name}: the file's name must end in .csv, .json or .parquet.")
    return suffix


def write_table(table: pd.DataFrame, name: str) -> None:
    """Writes predictions to a file or to an object in S3 as CSV, JSON or Parquet, by the name's ending.

    In CSV, text that a spreadsheet would take for a formula has an apostrophe before it, as OWASP advises (CSV
    injection); JSON and Parquet hold it as it is.
    """
    match table_format(name):
        case ".csv":
            content = _to_csv(table).encode()
        case ".json":
            content = to_json(table).encode()
        case _:
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            content = buffer.getvalue()
    if s3.is_s3(name):
        s3.write_object(name, content)
    else:
        write_bytes(Path(name), content)


def _to_csv(table: pd.DataFrame) -> str:
    table = table.map(_as_text)
    # Readers take \r for the end of a row, and Python's writer does not quote it unless it quotes all text.
    broken = any("\r" in text for text in [*table.columns, *table.to_numpy().flat] if isinstance(text, str))
    return table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL)


def _as_text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def to_json(table: pd.DataFrame) -> str:
    """Predictions as a list of objects."""
    return table.to_json(orient="records", indent=2, double_precision=15)
