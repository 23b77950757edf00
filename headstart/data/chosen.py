"""Some samples of a split."""

from typing import Any

import numpy as np


class ChosenSamples:
    """The samples of a split at some positions; nothing is read before it is asked for."""

    def __init__(self, samples: Any, rows: np.ndarray) -> None:
        self.samples, self.rows = samples, rows
        self.shape = (len(rows), *samples.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        chosen = self.rows[rows]
        return self.samples[int(chosen) if np.ndim(chosen) == 0 else chosen]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("chosen samples are always a copy")
        return np.asarray(self[:], dtype=dtype)
