"""Serving of a registered model: MLflow runs this file as a model from code and passes it the bundle.

A request has one input, `image`, and gives each picture in one of two forms:

- the content of its file, as base64 text where the request is JSON or CSV and as bytes elsewhere:
  `{"dataframe_records": [{"image": "iVBORw0…"}, …]}`, `{"dataframe_split": …}`, `{"inputs": ["iVBORw0…", …]}`, a
  CSV or Parquet table, or in Python a DataFrame or an object array;
- pixels as the network reads them, integers from 0 to 255 in (N, H, W, C): `{"inputs": [[[[0], …]]]}`, or in Python a
  uint8 array.

The response has one record for each picture: `label`, `probability` and `p_<class>` for each class, as in the output of
`headstart predict`. A request with an unreadable picture is refused as a whole, with the picture's number and the
reason. Limits on the size of requests are in request.py.
"""

import base64
import binascii
import io
from collections.abc import Callable, Iterator
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
    from headstart.models.bundle import ModelBundle

_Read = TypeVar("_Read")

_INPUT = "image"
# Activations of a large network take 10 MB and more for each picture.
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
        """Return one row for each picture, in the form of `answers`."""
        from headstart.errors import InputError
        from headstart.models.prediction import answers

        images = np.atleast_1d(model_input[_INPUT])
        if len(images) == 0:
            raise Refusal("The request holds no image; give one or more.")
        try:
            self.bundle.require_head()
            bounds().hold([len(images) * self.bundle.preprocessing.size**2])
            samples = _decoded(self.bundle, images) if images.ndim == 1 else _checked(self.bundle, images)
            return answers(self.bundle, self.bundle.predict_probabilities(samples, _BATCH))
        except InputError as reason:
            raise Refusal(str(reason)) from None


def signature(bundle: "ModelBundle") -> ModelSignature:
    """Return the signature under which a bundle is registered.

    Only an object tensor accepts both encoded images and pixel arrays of any batch size, so pictures are validated here
    instead of by the schema.
    """
    from headstart.models.prediction import probability_columns

    shares = [ColSpec(DataType.double, name) for name in ("probability", *probability_columns(bundle.classes))]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,), _INPUT)]),
        outputs=Schema([ColSpec(DataType.string, "label"), *shares]),
    )


def input_example(bundle: "ModelBundle") -> pd.DataFrame:
    """Return a request for two pictures of the model's input size, as base64 text of PNG files."""
    from PIL import Image

    size = bundle.preprocessing.size
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    texts = []
    for pixels in (np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size))):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        texts.append(base64.b64encode(file.getvalue()).decode())
    return pd.DataFrame({_INPUT: texts})


def _decoded(bundle: "ModelBundle", images: np.ndarray) -> np.ndarray:
    """Decode files (N,), base64 text or bytes, to uint8 samples (N, H, W, C)."""
    from headstart.modalities import UnreadableSample, modality

    kind = modality(bundle.modality)
    size, channels, bound = bundle.preprocessing.size, bundle.preprocessing.channels, bounds()

    def of_each(read: Callable[[bytes], _Read]) -> Iterator[_Read]:
        for number, image in enumerate(images):
            try:
                yield read(_content(bundle, image))
            except UnreadableSample as reason:
                raise Refusal(f"Image {number} of the request cannot be read: {reason}.") from None
            except NoRoom:
                raise Busy from None

    def decode(raw: bytes) -> np.ndarray:
        return kind.decode(raw, size, channels, room=bound.room, patience=bound.patience)

    bound.hold(of_each(lambda raw: kind.pixels(raw, size)))
    samples = np.empty((len(images), size, size, channels), dtype=np.uint8)
    for number, sample in enumerate(of_each(decode)):
        samples[number] = sample
    return samples


def _content(bundle: "ModelBundle", image: Any) -> bytes:
    from headstart.modalities import UnreadableSample

    # MLflow wraps each value of `{"instances": [{"image": …}]}` in an array.
    image = image.tolist() if isinstance(image, np.ndarray) else image
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str):
        raise UnreadableSample(
            f"it is of type {type(image).__name__}; give a file's content, as base64 text in JSON, or pixels of shape "
            f"{_shape(bundle)}"
        )
    try:
        # base64 from mail and command line tools contains line breaks.
        return base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableSample("its text is not base64; encode the bytes of the file") from None


def _checked(bundle: "ModelBundle", images: np.ndarray) -> np.ndarray:
    """Validate the pixels of a request and return uint8 samples (N, H, W, C)."""
    size, channels = bundle.preprocessing.size, bundle.preprocessing.channels
    if images.shape[1:] != (size, size, channels):
        raise Refusal(
            f"The pixels have the shape {images.shape}, not {_shape(bundle)}; resize them, or send the files' content, "
            "which is resized here."
        )
    try:
        values = np.asarray(images.tolist()) if images.dtype == object else images
    except ValueError:
        values = images
    if values.dtype.kind not in "iu":
        raise Refusal(f"The pixels are of type {values.dtype}; give integers from 0 to 255.")
    if values.min() < 0 or values.max() > 255:
        raise Refusal(f"The pixels range from {values.min()} to {values.max()}; give integers from 0 to 255.")
    return values.astype(np.uint8)


def _shape(bundle: "ModelBundle") -> str:
    size, channels = bundle.preprocessing.size, bundle.preprocessing.channels
    return f"(N, {size}, {size}, {channels})"


set_model(ServedBundle())
