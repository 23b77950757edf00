"""The augmentations of sequences of DNA, one file each."""
