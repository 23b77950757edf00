"""Predictions for files: a model's classes for images that belong to no data set."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from headstart.errors import InputError
from headstart.modalities import Modality, UnreadableSample, modality
from headstart.models.bundle import ModelBundle
from headstart.storage.local import write_bytes

_BATCH = 256


def predict_files(bundle: ModelBundle, paths: Sequence[Path]) -> pd.DataFrame:
    """One row a file, in the order given, folders walked by name: path, label, probability, p_<class> …, error.

    A file that cannot be read has the reason in `error` and no label. Files in folders whose names do not say that
    they hold a sample are passed over.

    Raises:
        InputError: a path does not exist, or there is no file to predict.
    """
    kind = modality(bundle.modality)
    files = [file for path in paths for file in _files(path, kind)]
    if not files:
        raise InputError(f"There is no {bundle.modality} file in {', '.join(map(str, paths))}.")
    rows: list[dict[str, object]] = []
    for start in range(0, len(files), _BATCH):
        rows.extend(_predict_batch(bundle, kind, files[start : start + _BATCH]))
    return pd.DataFrame(rows)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes predictions as CSV, JSON or Parquet, by the name's ending."""
    match path.suffix:
        case ".csv":
            content = table.to_csv(index=False).encode()
        case ".json":
            content = table.to_json(orient="records", indent=2).encode()
        case ".parquet":
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            content = buffer.getvalue()
        case _:
            raise InputError(f"-o {path}: the file's name must end in .csv, .json or .parquet.")
    write_bytes(path, content)


def _files(path: Path, kind: Modality) -> Iterator[Path]:
    if path.is_dir():
        yield from (p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in kind.extensions)
    elif path.is_file():
        yield path
    else:
        raise InputError(f"{path} does not exist; give image files or folders of them.")


def _predict_batch(bundle: ModelBundle, kind: Modality, files: list[Path]) -> list[dict[str, object]]:
    preprocessing = bundle.preprocessing
    samples, errors = [], []
    for file in files:
        try:
            samples.append(kind.decode(file.read_bytes(), preprocessing.size, preprocessing.channels))
            errors.append("")
        except (OSError, UnreadableSample) as reason:
            errors.append(str(reason))
    probabilities = iter(bundle.predict_probabilities(np.stack(samples)) if samples else [])
    rows = []
    for file, error in zip(files, errors, strict=True):
        row: dict[str, object] = {"path": str(file), "label": None, "probability": None}
        row |= {f"p_{name}": None for name in bundle.classes}
        if not error:
            shares = next(probabilities)
            row |= {"label": bundle.classes[int(shares.argmax())], "probability": float(shares.max())}
            row |= {f"p_{name}": float(share) for name, share in zip(bundle.classes, shares, strict=True)}
        rows.append({**row, "error": error})
    return rows
