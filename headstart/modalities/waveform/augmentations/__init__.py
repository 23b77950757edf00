"""The augmentations of waveforms, one file each."""
