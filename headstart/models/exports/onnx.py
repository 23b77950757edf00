"""`onnx`: one file with preprocessing, temperature and softmax in its graph; see headstart/models/onnx.py."""

from pathlib import Path

from headstart.models.bundle import ModelBundle
from headstart.models.exports import Format


class Onnx(Format):
    title = "one .onnx file"
    suffix = ".onnx"
    holds_every_task = True

    def refusal(self, bundle: ModelBundle) -> str | None:
        return None if bundle.classes else "the model knows no classes, and an .onnx file answers with probabilities"

    def write(self, bundle: ModelBundle, path: Path, *, digest: str) -> float:
        from headstart.models.onnx import export

        return export(bundle, path, digest=digest)


FORMAT = Onnx()
