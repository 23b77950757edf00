"""The transferability scores, one file each. `headstart.features.score` has their registry."""
