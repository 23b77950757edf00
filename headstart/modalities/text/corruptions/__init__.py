"""The corruptions of texts, one file each."""
