"""The version of this distribution; pyproject.toml, the image tag and every model's provenance read it here."""

__version__ = "0.1.0"

# Whoever runs a step sets it to a digest of the code, or of the image that holds it: what was made by other code of the
# same version is then made again.
CODE_VARIABLE = "HEADSTART_CODE"
