"""The augmentations that a recipe can choose, one file each."""
