"""The registry of the augmentations of sequences of DNA that a recipe can choose."""

from headstart.modalities.augmentation import Augmentation
from headstart.registry import Registry

AUGMENTATIONS = Registry("dna_augmentations", "headstart.modalities.dna.augmentations", "AUGMENTATION", Augmentation)
