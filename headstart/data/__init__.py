"""Data sets: a reference becomes a verified, split and packed directory that training reads from memory maps."""
