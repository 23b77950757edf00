"""Feature vectors of samples: the outputs of all stages of a network as it is, computed once and cached."""

from collections.abc import Sequence

import numpy as np

from headstart.data.dataset import Split
from headstart.features.cache import FeatureCache
from headstart.features.frozen_stages import FrozenOutputs, FrozenStages
from headstart.models.bundle import ModelBundle
from headstart.storage.state import State


def vectors(bundle: ModelBundle, split: Split, state: State | None = None, *, precision: str = "auto") -> np.ndarray:
    """The feature vectors of one split: `vectors_of`."""
    return vectors_of(bundle, [split], state, precision=precision)[0]


def vectors_of(
    bundle: ModelBundle, splits: Sequence[Split], state: State | None = None, *, precision: str = "auto"
) -> list[np.ndarray]:
    """The feature vectors of each split's samples, not augmented: float32 (N, feature_dim), read-only.

    They are computed on the training device, in eval mode, unless the cache below `state` has them; without a state
    they are computed. `precision` is fp32, bf16 or auto: bf16 where that measures faster, which is tried when the work
    is worth it, and the same for all splits that are computed at once.
    """
    stages = FrozenStages(bundle, len(bundle.network.stages), precision, sum(len(split.labels) for split in splits))
    found = []
    for split in splits:
        wanted = FrozenOutputs(stages, split, None)
        kept = None if state is None else FeatureCache(state).read(wanted)
        if kept is None:
            kept = np.concatenate(list(wanted.batches(stages.choose_precision(state))))
            kept.setflags(write=False)
        found.append(kept)
    return found
