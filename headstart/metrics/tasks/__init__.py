"""The tasks that a recipe can name, one file each."""
