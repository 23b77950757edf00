"""The augmentations of proteins, one file each."""
