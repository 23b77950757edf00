"""Can it be used? Its files are fetched and verified, and it predicts the example that is stored with it.

A rollback asks this gate alone.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError
from headstart.modalities import UnreadableSample
from headstart.tracking.gate import Case, Gate, Measured, without

if TYPE_CHECKING:
    from headstart.models.bundle import ModelBundle
    from headstart.tracking.version_record import VersionRecord


def _faults(case: Case) -> Measured:
    found = _fault(case.challenger)
    return float(found is not None), found or "its files are whole, and it predicts its stored example"


def _fault(version: "VersionRecord") -> str | None:
    """Why a version cannot be used, as a clause; None where it can.

    Its bundle's sums are verified, its content is compared with the digest that it was registered with, and it predicts
    the example request that was stored with it.
    """
    from headstart.models.bundle import ModelBundle, bundle_digest
    from headstart.tracking.registry import stored_example

    try:
        bundle = ModelBundle.load(version.bundle)
        if version.digest and version.digest != bundle_digest(version.bundle):
            return "its content is not the one that was registered"
        _predict(bundle, stored_example(f"models:/{version.name}"))
    except (UnreadableSample, binascii.Error) as error:
        return f"its stored example cannot be read: {error}"
    except HeadstartError as error:
        return str(error).rstrip(".")
    return None


def _predict(bundle: "ModelBundle", example: Sequence[str] | None) -> None:
    """Has the bundle predict an example request, base64 texts of files, or texts where these are samples; without one,
    the example that registering it would store. HeadstartError if it cannot, or if its results are not finite."""
    from headstart.modalities import modality
    from headstart.tracking.serving import input_example

    texts = input_example(bundle).iloc[:, 0].tolist() if example is None else example
    kind, given = modality(bundle.modality), bundle.preprocessing.given
    files = [kind.from_text(text) if kind.is_text else base64.b64decode(text) for text in texts]
    samples = [kind.decode(file, given).values for file in files if file is not None]
    (bundle.predict_outputs if bundle.classes else bundle.predict_features)(samples)


GATE = Gate(
    bool,
    True,
    "the model's files are whole, and it predicts the example that is stored with it",
    without(_faults),
    place=80,
)
