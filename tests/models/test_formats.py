"""Bundles that earlier versions wrote are read: users have registered them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from headstart.models.bundle import ModelBundle, bundle_digest

FORMATS = Path(__file__).parent / "formats"


def test_a_bundle_of_version_2_has_its_digest_and_predicts_what_it_did(tmp_path: Path) -> None:
    with zipfile.ZipFile(FORMATS / "version-2.zip") as archive:
        archive.extractall(tmp_path)
    bundle = ModelBundle.load(tmp_path)
    samples = (np.arange(2 * 32 * 32) % 251).astype(np.uint8).reshape(2, 32, 32, 1)

    digest = "sha256:0ac0cc6442998b9a8cf415b39a789e67bb960b719f4eaa40523a124fec200525"
    assert bundle_digest(tmp_path) == digest
    assert (bundle.architecture, bundle.modality, bundle.classes) == ("convnet", "image", ("cat", "dog"))
    assert bundle.provenance == {"role": "source", "strategy": None}
    assert bundle.predict_probabilities(samples) == pytest.approx(
        np.array([[0.6317319, 0.36826807], [0.63173145, 0.36826852]]), abs=1e-6
    )
    assert bundle.save(tmp_path / "again") == digest
