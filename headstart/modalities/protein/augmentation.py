"""The registry of the augmentations of proteins that a recipe can choose."""

from headstart.modalities.augmentation import Augmentation
from headstart.registry import Registry

AUGMENTATIONS = Registry(
    "protein_augmentations", "headstart.modalities.protein.augmentations", "AUGMENTATION", Augmentation
)
