"""Contenders, the choice among them, the verdict and the report."""
