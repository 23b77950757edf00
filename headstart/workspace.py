"""The workspace: the folder in which runs on this machine keep artifacts, cache, logs and their record."""

import os
from pathlib import Path

VARIABLE = "HEADSTART_WORKSPACE"
NAME = ".headstart"


def find_workspace() -> Path:
    """Return the workspace that HEADSTART_WORKSPACE names, else the nearest folder `.headstart` in the working
    directory and the folders above it, else `.headstart` here, which the first run makes."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / NAME).is_dir():
            return Path(NAME) if folder == here else folder / NAME
    return Path(NAME)
