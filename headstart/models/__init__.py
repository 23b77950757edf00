"""Architectures, heads, preprocessing and the model bundle."""
