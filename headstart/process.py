"""A process of headstart's own, a command's or a step's: quiet, and quick to end."""

import atexit
import gc
import sys
import warnings


def settle() -> None:
    """Make this process quiet, and quick to end."""
    atexit.register(_leave_garbage)
    # Pillow's warnings concern files that it decodes well or refuses.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _leave_garbage() -> None:
    """Keep Python from searching all that torch and mlflow made for garbage at its end, which takes a second or two."""
    # Triton 3.9, which PyTorch's builds for CUDA bring, would list what is left of it on stderr, a page of types.
    if "triton._C.libtriton" not in sys.modules:
        gc.freeze()
