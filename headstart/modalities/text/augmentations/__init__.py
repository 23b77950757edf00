"""The augmentations of texts, one file each."""
