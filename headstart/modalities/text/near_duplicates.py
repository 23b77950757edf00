"""Near duplicates: texts that read the same, as copies do that were edited a little or laid out anew.

Two texts are near duplicates where the sets of their shingles, runs of 8 letters and digits in lower case, have at
least 0.8 of their union in common. Candidates have 4 values in one of 16 bands of their MinHash in common: texts that
have 80% in common are missed once in 5000 times. A text of fewer than 32 shingles is like any other of a few words.
"""

import numpy as np

from headstart.modalities.minhash import Shingled

_RUN = 8
_POWERS = np.array([pow(1_000_003, power, 2**64) for power in range(_RUN)], dtype=np.uint64)


class TextsAlike(Shingled):
    alike, rows, least = 0.8, 4, 32

    def shingles(self, values: np.ndarray) -> np.ndarray:
        """Those of the runs of 8 letters and digits in a stored text."""
        letters = np.where((values >= 65) & (values <= 90), values + 32, values)
        letters = letters[((letters >= 97) & (letters <= 122)) | ((letters >= 48) & (letters <= 57)) | (letters >= 128)]
        if len(letters) < _RUN:
            return np.empty(0, dtype=np.uint64)
        runs = np.lib.stride_tricks.sliding_window_view(letters.astype(np.uint64), _RUN)
        found: np.ndarray = np.unique((runs * _POWERS).sum(axis=1, dtype=np.uint64))
        return found


TEXTS_ALIKE = TextsAlike()
