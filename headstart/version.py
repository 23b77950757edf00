"""The version of this distribution; pyproject.toml, the image tag and every model's provenance read it here."""

__version__ = "0.1.0"
