"""Import: a model from elsewhere becomes a bundle that computes the same, which is measured before it is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from headstart.errors import HeadstartError, InputError
from headstart.models.bundle import ModelBundle
from headstart.models.sources import open_source

LARGEST_DIFFERENCE = 1e-4
"""Of an output, as a share of the largest output: what float32 loses when sums are taken in another order."""

_SAMPLES = 4


@dataclass(frozen=True)
class Imported:
    """An imported model: its bundle's digest and content, the pinned reference of what it was made of, and the largest
    difference of an output from the original's on `samples` samples of noise."""

    bundle: ModelBundle
    digest: str
    reference: str
    difference: float
    samples: int = _SAMPLES

    @property
    def stages(self) -> list[int]:
        """The number of weights of each stage, from input to output."""
        return [sum(parameter.numel() for parameter in stage.parameters()) for stage in self.bundle.network.stages]


def import_source(uri: str, path: Path, *, fetch_registered: Callable[[str], Path] | None = None) -> Imported:
    """Write the bundle of a model from elsewhere to `path`, replacing an existing one.

    The bundle is read back and compared with the forward pass of the model's own library on the same inputs.
    `fetch_registered` is as for `load_source`.

    Raises:
        InputError: `uri` is no source, cannot be read, or is a bundle already.
        HeadstartError: the outputs differ; nothing is written.
    """
    with open_source(uri, fetch_registered=fetch_registered) as found, TemporaryDirectory() as folder:
        if found.original is None:
            raise InputError(f"{uri} is a model bundle already; use it as it is.")
        found.bundle().save(Path(folder, "bundle"))
        bundle = ModelBundle.load(Path(folder, "bundle"))
        original = found.original()
        samples = bundle.preprocessing.noise(_SAMPLES)
        expected = original.outputs(samples)
        outputs = bundle.predict_logits(samples) if bundle.classes else bundle.predict_features(samples)
        difference = float((torch.from_numpy(outputs) - expected).abs().max())
        # Negated, so that NaN is refused too.
        if not difference <= LARGEST_DIFFERENCE * max(1.0, float(expected.abs().max())):
            raise HeadstartError(
                f"{uri}: the bundle's outputs differ by {difference:.2g} from those of the original {original.name}, "
                "and it was not written; report this model, and choose another one."
            )
        return Imported(bundle, bundle.save(path), found.reference, difference)
