"""No augmentation: recordings stay as they are stored."""

from headstart.modalities.augmentation import Augmentation

AUGMENTATION = Augmentation(lambda batch, draws, strength: batch.clone())
