"""The ways to carry a source model to a target, and their penalties."""
