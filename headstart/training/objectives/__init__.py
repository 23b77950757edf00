"""The objectives of pretraining, one file each."""
