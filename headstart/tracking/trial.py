"""Trying a version before it becomes the champion: its files are fetched, verified, and asked to predict."""

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.errors import HeadstartError
from headstart.modalities import UnreadableSample

if TYPE_CHECKING:
    from headstart.models.bundle import ModelBundle
    from headstart.tracking.dossier import Dossier


def fault(dossier: "Dossier") -> str | None:
    """Why a version cannot be used, as a clause; None where it can.

    Its bundle is brought here, its sums are verified, its content is compared with the digest that it was registered
    with, and it predicts the example request that was stored with it.
    """
    from headstart.models.bundle import ModelBundle, bundle_digest
    from headstart.tracking.registry import stored_example

    try:
        bundle = ModelBundle.load(dossier.bundle)
        if dossier.digest and dossier.digest != bundle_digest(dossier.bundle):
            return "its content is not the one that was registered"
        _predict(bundle, stored_example(f"models:/{dossier.name}"))
    except (UnreadableSample, binascii.Error) as error:
        return f"its stored example cannot be read: {error}"
    except HeadstartError as error:
        return str(error).rstrip(".")
    return None


def _predict(bundle: "ModelBundle", example: Sequence[str] | None) -> None:
    """Has the bundle predict an example request, base64 texts of files; the one that would be stored with it where none
    is. HeadstartError where it cannot, or what it predicts are no numbers."""
    from headstart.modalities import modality
    from headstart.tracking.serving import input_example

    texts = input_example(bundle).iloc[:, 0].tolist() if example is None else example
    kind, shape = modality(bundle.modality), bundle.preprocessing
    samples = np.stack([kind.decode(base64.b64decode(text), shape.size, shape.channels) for text in texts])
    (bundle.predict_probabilities if bundle.classes else bundle.predict_features)(samples)
