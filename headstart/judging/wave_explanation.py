"""Which parts of a recording a prediction rests on, for networks that read its waveform.

Parts are silenced one after another (Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks",
section 4.2). Gradients along a path from silence tell nothing of networks that normalise a waveform: they answer the
same for each point of it.
"""

from collections.abc import Sequence

import numpy as np

from headstart.models.bundle import ModelBundle

_PARTS = 24
_LEAST_SAMPLES = 800


def wave_maps(bundle: ModelBundle, samples: Sequence[np.ndarray], classes: np.ndarray) -> list[np.ndarray]:
    """How much each value of stored waveforms, int16 (L,) each, speaks for the predictions `classes`, int (N,): by how
    much the logit falls where the part that it lies in is silenced, of up to 24 parts; below 0 what speaks against
    them."""
    maps = []
    for wave, number in zip(samples, classes.tolist(), strict=True):
        count = max(1, min(_PARTS, len(wave) // _LEAST_SAMPLES))
        parts = np.array_split(np.arange(len(wave)), count)
        silenced = [wave.copy() for _ in parts]
        for form, part in zip(silenced, parts, strict=True):
            form[part] = 0
        logits = bundle.predict_logits([wave, *silenced])[:, number]
        maps.append(np.repeat(logits[0] - logits[1:], [len(part) for part in parts]))
    return maps
