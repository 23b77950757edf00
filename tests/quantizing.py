"""What holds of a network of 8-bit whole numbers, whatever its samples are."""

from pathlib import Path
from typing import Any

import numpy as np

from headstart.modalities.preprocessing import Samples
from headstart.models.bundle import ModelBundle
from headstart.models.int8_network import as_int8
from headstart.models.onnx import checked, predictor, runtime

DIGEST = f"sha256:{'0' * 64}"


def check_int8(bundle: ModelBundle, calibration: Samples, samples: Any, place: Path) -> ModelBundle:
    """Quantize the bundle, check that a sample's answer is the same alone, among others, from its bundle, in a server
    and, alone, in an .onnx file, and return it."""
    small = as_int8(bundle, calibration)

    answers = small.predict_outputs(samples)
    apart = np.abs(answers - bundle.predict_outputs(samples))[~np.isnan(answers)]
    assert apart.max() > 0
    alone = np.concatenate([small.predict_outputs(samples[row : row + 1]) for row in range(len(samples))])
    np.testing.assert_allclose(alone, answers, rtol=1e-6, atol=1e-6)
    bundle.save(place / "original")
    small.save(place / "small")
    sizes = [(place / each / "model.safetensors").stat().st_size for each in ("small", "original")]
    assert sizes[0] < sizes[1]
    again = ModelBundle.load(place / "small")
    assert (again.architecture, again.task) == (f"int8/{bundle.architecture}", bundle.task)
    np.testing.assert_array_equal(again.predict_outputs(samples), answers)
    np.testing.assert_array_equal(runtime(again, threads=1)(samples), answers)
    content, _, _ = checked(again, DIGEST)
    exported = predictor(again, content, threads=1)(samples[:1])
    np.testing.assert_allclose(exported, answers[:1], rtol=0.05, atol=0.05)
    return again
