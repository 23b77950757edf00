"""headstart: transfer a model from a source domain to a target domain, and prove that it helped.

    import headstart as hs

    result = hs.transfer(source="photos/site-a", target="photos/site-b", labels_per_class=20)
    result.verdict, result.table
    hs.load("models:/site-b-target").predict("photos/new")

Functions are imported when they are first used, so that `import headstart` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstart.installation import missing_extra, require_platform
from headstart.version import __version__

if TYPE_CHECKING:
    from headstart.api.data import prepare
    from headstart.api.measuring import evaluate
    from headstart.api.models import Model, load
    from headstart.api.ranking import Ranking, rank
    from headstart.api.registry import compare, diff, history, lineage, monitor, promote, rollback
    from headstart.errors import HeadstartError, InputError
    from headstart_pipelines.experiment import Result, SearchResult, search, transfer

__all__ = [
    "HeadstartError",
    "InputError",
    "Model",
    "Ranking",
    "Result",
    "SearchResult",
    "__version__",
    "compare",
    "diff",
    "evaluate",
    "history",
    "lineage",
    "load",
    "monitor",
    "prepare",
    "promote",
    "rank",
    "rollback",
    "search",
    "transfer",
]

_HOMES = {
    "headstart.api.data": ("prepare",),
    "headstart.api.measuring": ("evaluate",),
    "headstart.api.models": ("Model", "load"),
    "headstart.api.ranking": ("Ranking", "rank"),
    "headstart.api.registry": ("compare", "diff", "history", "lineage", "monitor", "promote", "rollback"),
    "headstart.errors": ("HeadstartError", "InputError"),
    # What takes a pipeline, from the floor that has them.
    "headstart_pipelines.experiment": ("Result", "SearchResult", "search", "transfer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    require_platform()
    try:
        found = getattr(import_module(_HOME_OF[name]), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
