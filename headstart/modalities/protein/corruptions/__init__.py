"""The corruptions of proteins, one file each."""
