"""The augmentations of recordings that a recipe can choose, one file each."""
