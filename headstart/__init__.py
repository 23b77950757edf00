"""headstart: transfer a model from a source domain to a target domain, and prove that it helped."""

from headstart.version import __version__

__all__ = ["__version__"]
