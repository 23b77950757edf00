"""The recipe: put together from the sections that each package keeps beside its code."""
