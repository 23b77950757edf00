"""The corruptions of sequences of DNA, one file each."""
