"""headstart: transfer a model from a source domain to a target domain, and prove that it helped.

    import headstart as hs

    hs.load("models:/digits-target@champion").predict("photos/")

Functions are imported when they are first used, so that `import headstart` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstart.version import __version__

if TYPE_CHECKING:
    from headstart.api.data import prepare
    from headstart.api.models import Model, load
    from headstart.api.ranking import Ranking, rank
    from headstart.api.registry import compare, history, lineage, promote, rollback
    from headstart.errors import HeadstartError, InputError

__all__ = [
    "HeadstartError",
    "InputError",
    "Model",
    "Ranking",
    "__version__",
    "compare",
    "history",
    "lineage",
    "load",
    "prepare",
    "promote",
    "rank",
    "rollback",
]

_HOMES = {
    "headstart.api.data": ("prepare",),
    "headstart.api.models": ("Model", "load"),
    "headstart.api.ranking": ("Ranking", "rank"),
    "headstart.api.registry": ("compare", "history", "lineage", "promote", "rollback"),
    "headstart.errors": ("HeadstartError", "InputError"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOME_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
