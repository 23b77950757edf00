"""The evidence for a model: its figures, the predictions behind them, and the samples it was trained on.

The steps that judge a model write it as a directory, registration keeps it with the version, and promotion reads it
back: `evidence.json`, `predictions.parquet` (the test split), `training.parquet` (ids), `report.html`, SHA256SUMS and,
where monitoring can use them, `features.npy` (of the test split), whose digest is in `evidence.json`.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.judging.verdict import Verdict
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS
from headstart.metrics.predictions import Predictions, read_predictions
from headstart.storage.digests import sha256_of
from headstart.storage.local import new_directory, read_json, write_bytes, write_json, write_text
from headstart.storage.sums import SUMS, verify_sums, write_sums

FORMAT_VERSION = 1

# Its folder beside the files of the model's bundle.
EVIDENCE = "evidence"

_FACTS = "evidence.json"
_PREDICTIONS = "predictions.parquet"
_TRAINING = "training.parquet"
_REPORT = "report.html"
# Not among those of SHA256SUMS, of which readers of earlier versions allow these four alone.
_FEATURES = "features.npy"
_FILES = (_FACTS, _PREDICTIONS, _TRAINING, _REPORT)


def figures(
    metrics: Mapping[str, Any],
    metric: str,
    score: Interval,
    gain: Interval | None = None,
    over_best: Interval | None = None,
) -> dict[str, float]:
    """A model's figures on a test split under their names in the record.

    `metrics` are those of `classification_metrics`; `score` is the value of `metric`, `gain` its gain over
    scratch and `over_best` that over the best baseline.
    """
    named = (*METRICS, "ece", "coverage", "margin")
    found = {f"test/{name}": float(metrics[name]) for name in named if name in metrics}
    found |= {f"test/{metric}_low": score.low, f"test/{metric}_high": score.high}
    for name, each in (("gain", gain), ("gain_over_best", over_best)):
        if each:
            found |= {
                f"{name}/{metric}": each.value,
                f"{name}/{metric}_low": each.low,
                f"{name}/{metric}_high": each.high,
            }
    return found


def digests(dataset: Dataset) -> dict[str, str]:
    """The digests of a data set and of its training and test splits."""
    return {**dataset.digests, "test_digest": dataset.split_digest("test")}


def seen(dataset: Dataset) -> np.ndarray:
    """The ids (N,) of the samples that training saw or that chose the best epoch and strategy."""
    return np.concatenate([dataset.split(name).ids for name in ("train", "val")])


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence for one model."""

    metric: str
    """the metric that it was chosen by"""
    figures: Mapping[str, float]
    """under their names in the record: `test/accuracy`, `test/accuracy_low`, `gain/accuracy`, …"""
    sentence: str
    """the verdict, or what was reached"""
    digests: Mapping[str, str]
    """`data_digest`, `train_digest` and `test_digest`: of the data set and of two of its splits"""
    dataset: str
    """address of the packed data set: a path or s3://…"""
    predictions: Predictions
    """on the test split"""
    trained_on: np.ndarray
    """str (N,): the ids of the samples that training or the choice of the best epoch has seen"""
    report: str
    """an HTML page"""
    features: np.ndarray | None = None
    """float32 (M, D), the model's features of the M rows of the test split that monitoring compares new samples with;
    None for a model that knows no labels, and in evidence of earlier versions"""

    @property
    def verdict(self) -> str | None:
        """The word of the verdict that the sentence begins with; None where it gives none."""
        word, colon, _ = self.sentence.partition(": ")
        return word if colon and word in get_args(Verdict) else None

    def save(self, path: Path) -> None:
        """Writes the directory, whole or not at all, in place of what stood there."""
        with new_directory(path) as draft:
            facts = {
                "format_version": FORMAT_VERSION,
                "metric": self.metric,
                "figures": dict(self.figures),
                "sentence": self.sentence,
                "digests": dict(self.digests),
                "dataset": self.dataset,
            }
            if self.features is not None:
                buffer = io.BytesIO()
                np.save(buffer, self.features, allow_pickle=False)
                write_bytes(draft / _FEATURES, buffer.getvalue())
                facts["features"] = sha256_of(draft / _FEATURES)
            write_json(draft / _FACTS, facts)
            self.predictions.save(draft / _PREDICTIONS)
            buffer = io.BytesIO()
            pq.write_table(
                pa.table({"id": pa.array(self.trained_on.tolist(), pa.string())}), buffer, compression="zstd"
            )
            write_bytes(draft / _TRAINING, buffer.getvalue())
            write_text(draft / _REPORT, self.report)
            write_sums(draft, _FILES)

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        """The evidence that `save` wrote; InputError if a file is missing, damaged or of another format version.

        Evidence without SHA256SUMS, which older versions wrote, is read as it is.
        """
        try:
            facts = read_json(path / _FACTS)
            if facts["format_version"] != FORMAT_VERSION:
                raise InputError(
                    f"{path} holds evidence of format {facts['format_version']}, not {FORMAT_VERSION}; read it with "
                    "the version that wrote it."
                )
            if (path / SUMS).exists():
                _verify(path)
            trained_on = pq.read_table(path / _TRAINING)["id"].to_pylist()
            return cls(
                metric=str(facts["metric"]),
                figures={str(name): float(value) for name, value in facts["figures"].items()},
                sentence=str(facts["sentence"]),
                digests={str(name): str(value) for name, value in facts["digests"].items()},
                dataset=str(facts["dataset"]),
                predictions=read_predictions(path / _PREDICTIONS),
                trained_on=np.array(trained_on, dtype=str),
                report=(path / _REPORT).read_text(encoding="utf-8"),
                features=_features(path / _FEATURES, facts["features"]) if "features" in facts else None,
            )
        except (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} does not hold the evidence for a model ({type(error).__name__}: {error}); register the model "
                "again."
            ) from error


def _features(path: Path, digest: str) -> np.ndarray:
    if sha256_of(path) != digest:
        raise InputError(f"{path} is damaged or was changed; register the model again.")
    return np.load(path, allow_pickle=False)


def _verify(path: Path) -> None:
    try:
        verify_sums(path, _FILES)
    except InputError as error:
        raise InputError(f"{error}; register the model again.") from error
