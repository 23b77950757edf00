"""The upper floor: the pipelines, their recipes, where their steps run, and the command line."""
