"""Frozen features of a source model, the heads that are fitted to them, and what they tell of a source."""
