"""Serving of a registered model: MLflow runs this file as a model from code and passes it the bundle.

A request has one input, called as the modality is (`image`), and gives each sample in one of two forms:

- the content of its file, as base64 text where the request is JSON or CSV and as bytes elsewhere:
  `{"dataframe_records": [{"image": "iVBORw0…"}, …]}`, `{"dataframe_split": …}`, `{"inputs": ["iVBORw0…", …]}`, a
  CSV or Parquet table, or in Python a DataFrame or an object array;
- values as they are stored, for pictures integers from 0 to 255 in (N, H, W, C): `{"inputs": [[[[0], …]]]}`, or in
  Python a uint8 array.

Where samples are text, a text stands for itself: `{"inputs": ["Shares fell …", …]}`.

The response has one record for each sample: `label`, `probability` and `p_<class>` for each class, or of a number
`value`, `low` and `high`, as in the output of `headstart predict`. A request with an unreadable sample is refused as a
whole, with its number and the reason. The size of requests is limited: see request.py.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from headstart.modalities.room import NoRoom
from headstart.tracking.request import Busy, Refusal, bound_server, bounds

if TYPE_CHECKING:
    from headstart.modalities import Modality
    from headstart.models.bundle import ModelBundle

_Read = TypeVar("_Read")

# Activations of a large network take 10 MB and more for each sample.
_BATCH = 32


class ServedBundle(PythonModel):
    """A model bundle behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Load and verify the bundle that was logged with the model."""
        from headstart.models.bundle import ModelBundle

        bound_server()
        self.bundle = ModelBundle.load(Path(context.artifacts["bundle"]))

    # MLflow passes a mapping of the signature's inputs to arrays and supports no type hint for that; with an
    # unsupported hint, or none, it warns at every load.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row for each sample, in the form of `answers`."""
        from headstart.errors import InputError
        from headstart.models.prediction import answers

        name = self.bundle.modality
        given = np.atleast_1d(model_input[name])
        if len(given) == 0:
            raise Refusal(f"The request holds no {name}; give one or more.")
        try:
            self.bundle.require_head()
            samples = decoded(self.bundle, given) if given.ndim == 1 else _checked(self.bundle, given)
            return answers(self.bundle, self.bundle.predict_outputs(samples, _BATCH))
        except InputError as reason:
            raise Refusal(str(reason)) from None


def signature(bundle: "ModelBundle") -> ModelSignature:
    """Return the signature under which a bundle is registered.

    Only an object tensor accepts both encoded files and arrays of any batch size, so samples are validated here instead
    of by the schema.
    """
    from headstart.metrics.task import MULTI_LABEL, REGRESSION
    from headstart.models.prediction import answer_columns

    numbers = [ColSpec(DataType.double, name) for name in answer_columns(bundle)]
    name = {REGRESSION: None, MULTI_LABEL: "labels"}.get(bundle.task, "label")
    label = [ColSpec(DataType.string, name)] if name else []
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,), bundle.modality)]),
        outputs=Schema([*label, *numbers]),
    )


def input_example(bundle: "ModelBundle") -> pd.DataFrame:
    """Return a request for two samples, as base64 text of files, or as texts where samples are text."""
    from headstart.modalities import modality

    kind = modality(bundle.modality)
    files = kind.examples(bundle.preprocessing)
    return pd.DataFrame({kind.name: [(file if kind.is_text else base64.b64encode(file)).decode() for file in files]})


def decoded(bundle: "ModelBundle", files: Sequence[Any] | np.ndarray) -> list[np.ndarray]:
    """Decode files (N,), base64 text or bytes, to stored samples, within `bounds`; where samples are text, texts.

    Raises:
        Refusal: one cannot be read; it is named by its number.
    """
    from headstart.modalities import UnreadableSample, modality

    kind, given, bound = modality(bundle.modality), bundle.preprocessing.given, bounds()

    def of_each(read: Callable[[bytes], _Read]) -> Iterator[_Read]:
        for number, file in enumerate(files):
            try:
                yield read(_content(bundle, kind, file))
            except UnreadableSample as reason:
                noun = kind.noun[0].upper() + kind.noun[1:]
                raise Refusal(f"{noun} {number} of the request cannot be read: {reason}.") from None
            except NoRoom:
                raise Busy from None

    def decode(raw: bytes) -> np.ndarray:
        return kind.decode(raw, given, room=bound.room, patience=bound.patience).values

    bound.hold([len(files) * bundle.preprocessing.positions])
    bound.hold(of_each(lambda raw: kind.cost(raw, given)))
    return list(of_each(decode))


def _content(bundle: "ModelBundle", kind: "Modality", file: Any) -> bytes:
    from headstart.modalities import UnreadableSample

    # MLflow wraps each value of `{"instances": [{"image": …}]}` in an array.
    file = file.tolist() if isinstance(file, np.ndarray) else file
    if isinstance(file, bytes):
        return file
    if not isinstance(file, str):
        expected = "a text" if kind.is_text else "a file's content, as base64 text in JSON"
        raise UnreadableSample(
            f"it is of type {type(file).__name__}; give {expected}, or {bundle.preprocessing.stored_form}"
        )
    if (content := kind.from_text(file)) is not None:
        return content
    try:
        # base64 from mail and command line tools contains line breaks.
        return base64.b64decode("".join(file.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableSample("its text is not base64; encode the bytes of the file") from None


def _checked(bundle: "ModelBundle", given: np.ndarray) -> "np.ndarray | list[np.ndarray]":
    """Validate the numbers of a request and return stored samples."""
    bounds().hold([len(given) * bundle.preprocessing.positions])
    try:
        values = np.asarray(given.tolist()) if given.dtype == object else given
    except ValueError:
        values = given
    return bundle.preprocessing.checked(values)


set_model(ServedBundle())
