"""headstart: transfer a model from a source domain to a target domain, and prove that it helped."""

import atexit
import gc

from headstart.version import __version__

# What torch, mlflow and the others make lives as long as the process. At its end Python looks through all of that for
# garbage once more, which costs each step and each command a second or two, and gains nothing.
atexit.register(gc.freeze)

__all__ = ["__version__"]
