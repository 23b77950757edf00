"""The served form of a registered model: MLflow runs this file as a model from code and hands it the bundle.

Takes a batch of uint8 samples (N, H, W, C) and returns class probabilities (N, K), float32, in the order of the
bundle's classes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class ServedBundle(PythonModel):
    """A model bundle behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Loads and verifies the bundle that was logged with the model."""
        from headstart.models.bundle import ModelBundle

        self.bundle = ModelBundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Class probabilities (N, K) of uint8 samples (N, H, W, C)."""
        return self.bundle.predict_probabilities(np.asarray(model_input, dtype=np.uint8))


set_model(ServedBundle())
