"""Search of a recipe on this machine: its data and sources are made ready, trials choose, and what they chose is run.

Nothing before the run reads the target's test split. The run is that of any recipe, so that its verdict is, too.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from headstart.environment import environment, require_temporary_folder
from headstart.errors import InputError
from headstart.modalities import MODALITIES
from headstart.recipe.recipe import Recipe
from headstart.searching.clock import Clock
from headstart.searching.inputs import Source, load_sources, prepared_target, require_held_out
from headstart.searching.loop import TrialLoop, Watch
from headstart.searching.searched import Searched, figures
from headstart.searching.section import Search
from headstart.searching.space import Space
from headstart.searching.study import Study
from headstart.searching.trial import Goal, Tried
from headstart.storage.digests import json_digest
from headstart.storage.local import write_text
from headstart.storage.state import STATE_VARIABLE
from headstart.tracking import database
from headstart.tracking.client import connect
from headstart.tracking.names import NOTE
from headstart.tracking.runs import Run, experiment_named
from headstart.tracking.store import artifacts, make_record
from headstart.tracking.trials import search_run
from headstart.version import CODE_VARIABLE, __version__
from headstart_pipelines.local import code_digest, run
from headstart_pipelines.resolve import resolve
from headstart_pipelines.runner.journal import Display

_FOLDER = "search"
RECIPE = "recipe.yaml"
_MINUTES = 30.0


@dataclass(frozen=True)
class Found:
    """What a search found, the recipe that compares the best of it, its file, and notes on what was left out."""

    searched: Searched
    recipe: Recipe
    path: Path
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "recipe": str(self.path),
            "trials": [tried.to_dict() for tried in self.searched.tried],
            "best": [tried.name for tried in self.searched.best],
            "ties": list(self.searched.ties),
            "notes": list(self.notes),
            "seconds": self.searched.seconds,
            "reason": self.searched.reason,
            "final_seconds": self.searched.final_seconds,
        }


def search(
    recipe: Recipe,
    workspace: Path,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    watch: Watch | None = None,
    display: Display | None = None,
) -> Found:
    """Search a recipe's sources, strategies and settings until so many minutes or trials are over, and write the recipe
    that compares the best.

    The study is kept in `workspace`: the same recipe, searched again with a larger budget or after an interruption,
    goes on with the trials that are there. Minutes count what all sessions spent, pretraining included.

    Args:
        minutes: None: 30, or without a limit where `trials` are given.
        watch: is told of trials.
        display: shows the steps of a pretraining.

    Raises:
        InputError: the recipe cannot be searched, or another process does; data or a source cannot be reached.
        HeadstartError: no trial was complete within the budget.
    """
    if recipe.target is None:
        raise InputError(f"{recipe.name} has no target, for which a search could choose; add one.")
    workspace = workspace.absolute()
    require_temporary_folder()
    make_record(workspace)
    resolved = resolve(recipe)
    folder = folder_of(resolved, workspace)
    variables = {
        STATE_VARIABLE: os.environ.get(STATE_VARIABLE, str(workspace / "state")),
        CODE_VARIABLE: code_digest(),
    }
    with alone(folder), environment(variables):
        study = Study(folder, recipe.seed)
        clock = Clock(60 * (budget_of(minutes, trials) or float("inf")), study.facts.get("seconds", 0.0))
        candidates = [*resolved.source.candidates, *_pretrained(resolved, workspace, study, clock, display)]
        with _opened(recipe, workspace, study) as record:
            goal = _goal(resolved, folder, record)
            sources = load_sources(candidates, goal.dataset, folder / "sources")
            space = space_of(resolved, sources.searched, goal.epochs)
            loop = TrialLoop(goal, space, sources.searched, sources.places, resolved.strategies, study, record, clock)
            searched = loop.run((resolved.search or Search()).keep, trials=trials, watch=watch)
            return written(resolved, searched, sources.searched, sources.notes, folder, record)


def written(
    recipe: Recipe, searched: Searched, sources: Sequence[Source], notes: Sequence[str], folder: Path, record: Run
) -> Found:
    """Write the recipe that compares the best to `folder` and to the search's record, with the figures of the best."""
    text = _text(recipe, searched, next(each for each in sources if each.name == searched.source))
    write_text(folder / RECIPE, text)
    # What a further session changes is no parameter.
    metrics = figures(searched.best[0], recipe.evaluation.metric)
    record.log_metrics({"search/trials": len(searched.tried), **metrics})
    record.set_tags({NOTE: _note(recipe, searched)})
    record.client.log_text(record.id, text, RECIPE)
    return Found(searched, Recipe.of(yaml.safe_load(text), at=str(folder / RECIPE)), folder / RECIPE, tuple(notes))


def budget_of(minutes: float | None, trials: int | None) -> float | None:
    """The minutes that a search has where it is given so many; None for no limit."""
    return _MINUTES if minutes is None and trials is None else minutes


@contextlib.contextmanager
def _opened(recipe: Recipe, workspace: Path, study: Study) -> Iterator[Run]:
    """The search's run in the experiment of the recipe, the same in every session."""
    client = connect()
    location = artifacts(workspace).as_uri() if database.file_of(os.environ["MLFLOW_TRACKING_URI"]) else None
    experiment = experiment_named(client, recipe.name, artifact_location=location)
    with search_run(client, experiment, f"{recipe.name}-search", study.facts.get("run")) as record:
        study.keep_fact("run", record.id)
        yield record


def space_of(recipe: Recipe, sources: Sequence[Source], epochs: int) -> Space:
    """The space of a recipe's search, where the rule for the size of the data gives so many epochs."""
    return Space.of(
        recipe.search or Search(),
        [source.candidate for source in sources],
        epochs=epochs,
        augmentations=tuple(MODALITIES[recipe.modality].augmentations),
    )


def folder_of(recipe: Recipe, workspace: Path, *where: str) -> Path:
    """The folder of a resolved recipe's search: named after all that decides what trials are and how they are compared,
    and after `where` they are carried out."""
    kept = {key: value for key, value in recipe.to_dict().items() if key != "baselines"}
    return workspace / _FOLDER / f"{recipe.name}-{json_digest([kept, __version__, *where])[:12]}"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the search's folder, which is made if it is missing.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"Another process searches this recipe in {folder}; wait for its end, or give --workspace."
        ) from None


def _pretrained(
    recipe: Recipe, workspace: Path, study: Study, clock: Clock, display: Display | None
) -> tuple[str, ...]:
    """The registered source that the recipe's source data make; the pipeline `pretrain` makes it, once a study."""
    if recipe.source.data is None:
        return ()
    known = study.facts.get("pretrained")
    if not known:
        outcome = run(resolve(pretraining_of(recipe)), workspace, display)
        known = list(outcome.registered)
        study.keep_fact("pretrained", known)
        study.keep_fact("seconds", clock.spent)
    return tuple(known)


def pretraining_of(recipe: Recipe) -> Recipe:
    """The recipe that makes the source of a recipe's source data, and nothing else."""
    source = {**recipe.to_dict()["source"], "candidates": []}
    return Recipe.of({"name": recipe.name, "modality": recipe.modality, "seed": recipe.seed, "source": source})


def _goal(recipe: Recipe, folder: Path, record: Run) -> Goal:
    """The target, prepared as the run prepares it, so that both take it over from the state."""
    assert recipe.target is not None  # noqa: S101 (`search` asks for it)
    data = recipe.target.data
    dataset = prepared_target(data, folder / "target", modality=recipe.modality, seed=recipe.seed, run_id=record.id)
    require_held_out(dataset, data.uri)
    record.log_data(dataset, ("train", "val"))
    judged = recipe.evaluation
    return Goal(dataset, recipe.training, judged.metric, recipe.seed, judged.confidence, judged.seeds)


def _note(recipe: Recipe, searched: Searched) -> str:
    """What MLflow's page of a search says, in Markdown."""
    best = searched.best[0]
    ties = f" Held-out labels do not tell these apart: {', '.join(searched.ties)}." if searched.ties else ""
    return (
        f"{len(searched.tried)} trials, which are below this run; the search ended as {searched.reason}. The best is "
        f"**{best.name}** from {best.source}: {held_out(best, recipe.evaluation.metric)}.{ties} These figures chose "
        f"it; the final run, of {RECIPE}, judges it on the test split."
    )


def _text(recipe: Recipe, searched: Searched, source: Source) -> str:
    """The recipe that compares the best, with comments that say where each strategy comes from."""
    values = recipe.to_dict()
    data = {key: value for key, value in values["target"]["data"].items() if key != "fingerprint" and value is not None}
    sections: dict[str, Any] = {
        "training": recipe.training.model_dump(mode="json", exclude_defaults=True),
        "baselines": values["baselines"],
        "evaluation": recipe.evaluation.model_dump(mode="json", exclude_defaults=True),
    }
    lines = [
        f"# Found by headstart search: the best {len(searched.best)} of {len(searched.tried)} trials, chosen on "
        "held-out labels; the test split was not read.",
        "# headstart run carries it out, headstart submit on a cluster.",
        *_yaml({"name": recipe.name, "modality": recipe.modality, "seed": recipe.seed}),
        *_yaml({"source": {"candidates": [source.reference]}}),
        *_yaml({"target": {"data": data}}),
        "strategies:",
    ]
    names: set[str] = set()
    for tried in searched.best:
        lines.append(f"  # trial {tried.number}: {held_out(tried, recipe.evaluation.metric)}")
        entry = dict(tried.strategy)
        while entry["name"] in names or entry["name"] in recipe.baselines:
            entry["name"] += f"-{tried.number}"
        names.add(entry["name"])
        lines.append(f"  - {_flow(entry)}")
    for key, section in sections.items():
        if section:
            lines += _yaml({key: section})
    return "\n".join(lines) + "\n"


def held_out(tried: Tried, metric: str) -> str:
    """A trial's figures on held-out labels, in words."""
    if tried.loss is None or tried.value is None:
        return tried.reason or tried.state
    return f"held-out log loss {tried.loss:.3f}, {metric} {tried.value:.3f} [{tried.low:.3f}, {tried.high:.3f}]"


def _yaml(values: Mapping[str, Any]) -> list[str]:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120).splitlines()


def _flow(values: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=True)
    return text.strip()
