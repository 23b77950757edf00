"""Experiments from Python: `headstart.transfer`, as `headstart run` does for a recipe, and `headstart.search`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.api.models import Model, load
from headstart.api.registry import promote
from headstart.environment import environment
from headstart.errors import InputError
from headstart.judging.leaderboard import Leaderboard
from headstart.models.reference import REGISTRY
from headstart.recipe.draft import is_model, name_of
from headstart.recipe.recipe import Recipe, load_recipe
from headstart.tracking.promotion import Promotion
from headstart.tracking.store import open_record
from headstart.workspace import find_workspace
from headstart_pipelines import display
from headstart_pipelines.local import Outcome, run
from headstart_pipelines.resolve import resolve

if TYPE_CHECKING:
    import pandas as pd

    from headstart_pipelines.search import Found

_URI = "MLFLOW_TRACKING_URI"
# Of the frame that shows the report in a notebook, in pixels.
_HEIGHT = 700


@dataclass(frozen=True)
class Result:
    """The result of an experiment. In a notebook it shows the verdict, the leaderboard and the whole report."""

    outcome: Outcome = field(repr=False)
    leaderboard: Leaderboard = field(repr=False)
    workspace: Path

    @property
    def run(self) -> str:
        """The run's name, under which the record, the log and the report know it."""
        return self.outcome.log.stem

    @property
    def verdict(self) -> str:
        """`helped`, `no evidence` or `hurt`."""
        return self.leaderboard.sentence.partition(":")[0]

    @property
    def sentence(self) -> str:
        """The verdict with its figures and intervals."""
        return self.leaderboard.sentence

    @property
    def facts(self) -> list[str]:
        """What else decides: facts that stand beside the verdict, each only where it holds."""
        return list(self.leaderboard.facts.values())

    @property
    def table(self) -> "pd.DataFrame":
        """The leaderboard, best first: strategy, source, the metric with its interval, gains, seconds; `chosen` marks
        the transfer that the verdict is about."""
        import pandas as pd

        chosen = [entry.chosen for entry in self.leaderboard.entries]
        return pd.DataFrame(self.leaderboard.rows()).assign(chosen=chosen)

    @property
    def report(self) -> Path:
        """The HTML report."""
        if self.outcome.report is None:
            raise InputError(f"The run {self.run} kept no report; run it again.")
        return self.outcome.report

    @property
    def registered(self) -> tuple[str, ...]:
        """The versions that the run registered, `models:/name/version`, the delivered one last."""
        return self.outcome.registered

    def model(self) -> Model:
        """Load the delivered model.

        Raises:
            InputError: the run registered none.
        """
        if not self.registered:
            raise InputError(f"The run {self.run} registered no model: {self.leaderboard.delivery}.")
        return load(self.registered[-1], workspace=self.workspace)

    def promote(self, *, reason: str | None = None, force: bool = False) -> Promotion:
        """Make the delivered version the champion of its model if every gate lets it; see `headstart.promote`.

        Raises:
            InputError: as `model` and `headstart.promote`.
        """
        if not self.registered:
            raise InputError(f"The run {self.run} registered no model: {self.leaderboard.delivery}.")
        name, _, version = self.registered[-1].removeprefix(REGISTRY).rpartition("/")
        return promote(name, version=version, reason=reason, force=force, workspace=self.workspace)

    def _repr_html_(self) -> str:
        page = escape(self.report.read_text(encoding="utf-8"))
        frame = (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" style="width:100%;height:{_HEIGHT}px;border:0"></iframe>'
        )
        return f"<p><b>{escape(self.sentence)}</b></p>{frame}"


def transfer(
    *,
    source: str | Path | Sequence[str] | Mapping[str, Any],
    target: str | Path | Mapping[str, Any],
    strategies: Sequence[str | Mapping[str, Any]] | None = None,
    labels_per_class: int | None = None,
    name: str | None = None,
    workspace: str | Path | None = None,
    quiet: bool = False,
    **sections: Any,
) -> Result:
    """Transfer a source to a target in several ways, train the baselines, judge all on the same untouched test samples,
    and register source and winner. Steps that did not change since the last call are reused.

    Args:
        source: samples to pretrain on, the address of a model, a list of models to choose among, or a recipe's section
            `source`.
        target: the target's samples, or a recipe's section `target`.
        strategies: names of strategies, or mappings with their settings; None: the default ones.
        labels_per_class: the label budget: so many labels of each class train, choose, stop and calibrate.
        name: of the experiment and its models; None: the target folder's name.
        workspace: where artifacts, cache, log and record are kept; None: as for `load`.
        quiet: print no progress.
        sections: further sections of a recipe: `modality`, `training`, `baselines`, `evaluation`, `seed`.

    Raises:
        InputError: a section is not usable, or data or a model cannot be reached; nothing was started.
        HeadstartError: a step failed; the message is the step's own.
    """
    given: dict[str, Any] = dict(target) if isinstance(target, Mapping) else {"data": {"uri": str(target)}}
    if labels_per_class is not None:
        given["data"] = {**given["data"], "labels_per_class": labels_per_class}
    values = {
        "name": name or name_of(str(given["data"]["uri"])),
        "source": _source(source),
        "target": given,
        **sections,
    }
    if strategies is not None:
        values["strategies"] = list(strategies)
    place = find_workspace() if workspace is None else Path(workspace)
    with environment({_URI: os.environ.get(_URI)}):
        return _run(Recipe.of(values), place, quiet=quiet)


@dataclass(frozen=True)
class SearchResult:
    """The result of a search, and that of the run that judged what it found. A notebook shows the trials."""

    found: "Found" = field(repr=False)
    result: Result | None
    """of the run that compared the best on the test split; None where none was asked for"""

    @property
    def recipe(self) -> Path:
        """The recipe of the best, as `headstart run` takes it."""
        return self.found.path

    @property
    def trials(self) -> "pd.DataFrame":
        """The trials, the lowest held-out log loss first: name, source, loss, the metric's value with its interval,
        state, seconds and settings; `chosen` marks those that the run compares."""
        import pandas as pd

        searched = self.found.searched
        chosen = {tried.number for tried in searched.best}
        table = pd.DataFrame([tried.to_dict() for tried in searched.tried])
        return table.assign(chosen=table["number"].isin(chosen)).sort_values("loss", ignore_index=True)

    def _repr_html_(self) -> str:
        shown = self.trials[["name", "source", "state", "loss", "value", "low", "high", "seconds", "chosen"]]
        return shown.to_html(index=False, float_format=lambda value: f"{value:.3f}")


def search(
    recipe: str | Path | Mapping[str, Any],
    *,
    minutes: float | None = None,
    trials: int | None = None,
    run_best: bool = True,
    workspace: str | Path | None = None,
    quiet: bool = False,
) -> SearchResult:
    """Search a recipe's sources, strategies and settings within a budget, choosing on held-out labels; then run the
    recipe of the best, whose verdict is that of any run. What was interrupted goes on when it is called again.

    Args:
        recipe: a recipe's file, or its sections; `search` narrows the space.
        minutes: for everything before the run, over all calls for the same recipe; None: 30, or no limit with `trials`.
        trials: how many, over all calls.
        run_best: run the recipe of the best.
        workspace: where the study, artifacts and the record are kept; None: as for `load`.
        quiet: print no progress.

    Raises:
        InputError: the recipe or its section `search` is not usable, or data or a model cannot be reached.
        HeadstartError: no trial was complete within the budget, or a step of the run failed.
    """
    from headstart_pipelines.search import search as search_recipe
    from headstart_pipelines.search_lines import SearchLines

    place = find_workspace() if workspace is None else Path(workspace)
    console = display.console()
    with environment({_URI: os.environ.get(_URI)}):
        read = Recipe.of(recipe) if isinstance(recipe, Mapping) else load_recipe(Path(recipe))
        lines = SearchLines(console, read.evaluation.metric, trials=trials, quiet=quiet)
        try:
            steps = display.Steps(console, quiet=quiet)
            found = search_recipe(read, place, minutes=minutes, trials=trials, watch=lines, display=steps)
        finally:
            lines.close()
        return SearchResult(found, _run(found.recipe, place, quiet=quiet) if run_best else None)


def _run(recipe: Recipe, place: Path, *, quiet: bool) -> Result:
    open_record(place.absolute(), writing=True)
    outcome = run(resolve(recipe), place, display.Steps(display.console(), quiet=quiet))
    if outcome.leaderboard is None:
        raise InputError(f"The run {outcome.log.stem} kept no leaderboard; run it again.")
    return Result(outcome, outcome.leaderboard, place)


def _source(given: str | Path | Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str | Path):
        return {"candidates": [str(given)]} if is_model(str(given)) else {"data": {"uri": str(given)}}
    return {"candidates": [str(uri) for uri in given]}
