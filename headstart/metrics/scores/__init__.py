"""The metrics that a recipe can choose by, one file each."""
