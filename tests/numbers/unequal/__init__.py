"""Vectors of unequal length as a kind of data."""
