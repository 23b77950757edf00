"""none: recordings stay as they are."""

from headstart.modalities.augmentation import Augmentation

AUGMENTATION = Augmentation(lambda batch, draws, strength: batch[:])
