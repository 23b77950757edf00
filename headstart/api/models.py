"""Models in Python: loading one from wherever it is, and asking it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.api.record import opened
from headstart.errors import InputError
from headstart.modalities import modality
from headstart.models.bundle import ModelBundle
from headstart.models.inputs import samples_of
from headstart.models.prediction import answers, predict
from headstart.models.reference import RECORD, pin_of, unpinned
from headstart.models.sources import load_source, pin_source
from headstart.tracking import registry

if TYPE_CHECKING:
    import pandas as pd

    from headstart.judging.int8 import Int8


@dataclass(frozen=True, eq=False)
class Model:
    """A model that was verified and loaded, on the CPU."""

    reference: str
    """its address, pinned to its content: `models:/digits-target/1#sha256=…`"""
    bundle: ModelBundle

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by index; empty for a model that was pretrained without labels."""
        return self.bundle.classes

    @property
    def modality(self) -> str:
        """The kind of samples that it reads: `image`, `audio`, …"""
        return self.bundle.modality

    @property
    def digest(self) -> str:
        """The SHA-256 of its content, `sha256:<hex>`."""
        return pin_of(self.reference) or ""

    @property
    def provenance(self) -> dict[str, Any]:
        """What the model was made of and how: data digests, its source's digest, strategy, seeds, versions."""
        return self.bundle.provenance

    def predict(self, data: object, *, batch_size: int = 256) -> "pd.DataFrame":
        """Return one row for each sample: path, label, probability (of that label), p_<class> …, error.

        A sample that cannot be read has the reason in `error` and no label; the others are answered.

        Args:
            data: a path or `s3://` address of a file, a folder or a table; a file's content as bytes; for pictures a
                PIL image, or uint8 arrays (H, W), (H, W, C), (N, H, W) or (N, H, W, C); for other modalities an array
                of samples as they are stored; a DataFrame with a column `path`, or one called as the modality is
                (`image`) that holds any of these, whose index the result keeps; or a list of any of these. Samples in
                memory are called #1, #2, … in the column `path`.
            batch_size: how many samples are in memory at once.

        Raises:
            InputError: the data are none of these, do not exist or hold no sample, or the model knows no classes or
                answers with no numbers.
        """
        import pandas as pd

        self.bundle.require_head()
        kind = modality(self.modality)
        if isinstance(data, np.ndarray) and kind.as_files(data) is None:
            stored = self.bundle.preprocessing.checked(data)
            table = answers(self.bundle, self.bundle.predict_outputs(stored, batch_size))
            table.insert(0, "path", [f"#{number}" for number in range(1, len(table) + 1)])
            return table.assign(error="")
        tables = list(predict(self.bundle, samples_of(data, kind), batch_size=batch_size))
        if not tables:
            raise InputError(f"There is no {kind.noun} to predict; give one or more.")
        table = pd.concat(tables, ignore_index=True)
        return table.set_axis(data.index) if isinstance(data, pd.DataFrame) else table

    def features(self, data: object, *, batch_size: int = 256) -> np.ndarray:
        """Return the features of the last stage, float32 (N, D), of `data` as `predict` takes it.

        Raises:
            InputError: as `predict`, and a sample cannot be read; it is named.
        """
        kind, given = modality(self.modality), self.bundle.preprocessing.given
        if isinstance(data, np.ndarray) and kind.as_files(data) is None:
            return self.bundle.predict_features(self.bundle.preprocessing.checked(data), batch_size)

        def decoded() -> Iterator[np.ndarray]:
            for sample in samples_of(data, kind):
                try:
                    yield kind.decode(sample.read(), given).values
                except InputError as reason:
                    raise InputError(f"{sample.name} cannot be read: {reason}.") from None

        return self.bundle.predict_features(list(decoded()), batch_size)

    def export(self, path: str | Path, format: str | None = None) -> float:
        """Write the model to `path` for other tools, and return the largest difference of an output between the two on
        samples of noise.

        Args:
            path: a new folder; for ONNX a file that ends in .onnx.
            format: `torch`, a program for PyTorch alone with the weights; `onnx`, with the extra of that name; `timm`
                or `hf`, a folder that timm or transformers loads; None: `onnx` where the file's name ends so.

        Raises:
            InputError: the format cannot hold the model, and those that can are named; `path` holds something; or an
                extra is not installed.
        """
        from headstart.models.exporting import export, format_of

        return export(self.bundle, Path(path), format=format_of(format, Path(path)), digest=self.digest).difference

    def export_int8(self, path: str | Path, data: str | Path) -> "Int8":
        """Write the model to `path` as one .onnx file of 8-bit whole numbers, for ONNX Runtime, and return its size,
        latency and metric beside those of the model's own .onnx file. Needs the extra `onnx`.

        Args:
            path: a file that ends in .onnx.
            data: labelled samples, as for `evaluate`, such as those that the model was trained on: up to 256 calibrate
                it, and up to 1,000 others compare it with the model.

        Raises:
            InputError: the samples have no labels or are fewer than 100, the model knows no classes, or the extra is
                not installed.
            HeadstartError: its answers are not enough like the model's; nothing is written.
        """
        from headstart.judging.int8 import export_int8
        from headstart.models.exporting import format_of

        format_of("onnx", Path(path))
        return export_int8(self.bundle, Path(path), str(data), digest=self.digest)

    def __repr__(self) -> str:
        read, answer = self.bundle.preprocessing.described, self.bundle.answer
        return f"<Model {unpinned(self.reference)}: {self.bundle.architecture}, reads {read}, {answer}>"


def load(uri: str | Path, *, workspace: str | Path | None = None) -> Model:
    """Load a model from wherever it is; its content is verified, and nothing of it is executed.

    Args:
        uri: `models:/name@alias`, `models:/name/version` or `models:/name` (its champion, else its latest version),
            an address of a model elsewhere (`torchvision://model/weights`, `timm://model`, `hf://org/model`), or the
            path or address of a bundle.
        workspace: whose record holds the registered models, where MLFLOW_TRACKING_URI is not set; None: the one that
            HEADSTART_WORKSPACE names, else the nearest `.headstart` upward.

    Raises:
        InputError: there is no such model, or it is damaged or not of headstart.
    """
    address = str(uri)
    with opened(workspace) if address.startswith(RECORD) else nullcontext():
        reference = pin_source(address, resolve_registered=registry.resolve)
        return Model(reference, load_source(reference, fetch_registered=registry.fetch))
