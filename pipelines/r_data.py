"""Data of R, as its packages hold them, for the modules that lay out a recipe's data."""

import warnings
from pathlib import Path
from typing import Any

from headstart.errors import InputError


def read_r(path: Path, name: str, package: str) -> Any:
    """Return the object `name` of an .rda or .RData file: vectors as arrays of numpy, lists as dictionaries.

    Nothing in the file is run.

    Raises:
        InputError: rdata is not installed, or the file is not that of Debian's package `package`.
    """
    try:
        import rdata
    except ImportError as error:
        raise InputError("Data of R need the package rdata; install it with: pip install rdata") from error
    try:
        with warnings.catch_warnings():
            # It warns of what is no data of R before it fails.
            warnings.simplefilter("ignore")
            return rdata.read_rda(path, default_encoding="ascii")[name]
    # The library raises plain exceptions.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({error}); give the folder that Debian's package {package} was unpacked to."
        ) from error
