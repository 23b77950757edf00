"""Kinds of data that a reference can name, one file each."""
