"""Search of a recipe on a cluster: pods pretrain, survey and try; what is proposed and chosen is decided here.

Nothing before the final run reads the target's test split.
"""

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, InputError
from headstart.recipe.recipe import Recipe
from headstart.searching.clock import Clock
from headstart.searching.loop import Watch
from headstart.searching.pods import SURVEY, Survey
from headstart.searching.proposals import Proposals
from headstart.searching.section import Search
from headstart.searching.study import Study
from headstart.tracking.client import connect, explained
from headstart.tracking.names import PARENT_RUN, ROLE
from headstart.tracking.run_outcome import read_outcome
from headstart.tracking.runs import Run, experiment_named, recorded_run
from headstart.tracking.trials import search_run
from headstart_pipelines.catalog import Job
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.follow import watch_run
from headstart_pipelines.cluster.runs import latest_named
from headstart_pipelines.cluster.submission import Package, build_package, submit
from headstart_pipelines.cluster.trials import ClusterTrials, Start
from headstart_pipelines.display import console
from headstart_pipelines.profile import Profile
from headstart_pipelines.resolve import is_record_reached
from headstart_pipelines.search import Found, alone, budget_of, folder_of, pretraining_of, space_of, written


@dataclass(frozen=True)
class Cluster:
    """A server, and how pods are placed there; `at_once` is the most trials that are at work at a time."""

    server: Server
    profile: Profile
    image: str | None
    allow_tag: bool
    at_once: int

    def package(self, pipeline: str, unknown: frozenset[str] = frozenset()) -> Package:
        """Compile a pipeline of a search; `unknown` are the data of which nothing tells the content."""
        return build_package(
            pipeline, image=self.image, profile=self.profile, unfingerprinted=unknown, allow_tag=self.allow_tag
        )

    def start(self, job: Job, package: Package, name: str) -> str:
        """Start a run under a name; return its id."""
        # Its steps write into records of their own, not below one that KFP's plugin opens.
        profile = self.profile.model_copy(update={"mlflow_plugin": False})
        return submit(self.server, job, package, profile, name=name).run_id


def search_on_cluster(
    recipe: Recipe,
    workspace: Path,
    cluster: Cluster,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    watch: Watch,
    stderr: bool = False,
) -> Found:
    """Search a recipe that is resolved for the cluster until so many minutes or trials are over, and write the recipe
    that compares the best. `headstart_pipelines.search.search` says what is kept and counted.

    Args:
        stderr: whether the runs before the trials are shown on standard error.

    Raises:
        InputError: the recipe cannot be searched, another process does, or MLflow's record is not reached from here.
        HeadstartError: the cluster refuses a run, or no trial was complete within the budget.
        DetachedError: interrupted; what is at work goes on.
    """
    if recipe.target is None:
        raise InputError(f"{recipe.name} has no target, for which a search could choose; add one.")
    if not is_record_reached():
        raise InputError(
            "A search on a cluster reads its trials from MLflow, which is not reached from here; set "
            "MLFLOW_TRACKING_URI to the server that the cluster's steps write to."
        )
    folder = folder_of(recipe, workspace.absolute(), cluster.server.host, cluster.image or cluster.profile.image or "")
    with alone(folder):
        study = Study(folder, recipe.seed)
        clock = Clock(60 * (budget_of(minutes, trials) or float("inf")), study.facts.get("seconds", 0.0))
        # Of its own, so that the same recipe, searched from two workspaces, has two records and its runs two names.
        key = study.facts.get("key") or f"{recipe.name}-search-{uuid.uuid4().hex[:8]}"
        study.keep_fact("key", key)
        with _opened(recipe, study, key) as record:
            before = _Before(recipe, cluster, study, record, clock, key, stderr)
            found = before.survey()
            space = space_of(recipe, found.sources, found.epochs)
            candidates = [source.candidate for source in found.sources]
            searched = ClusterTrials(
                cluster.server,
                _starter(recipe, cluster, key, found),
                f"{key}-trial",
                recipe.evaluation.metric,
                Proposals(space, candidates, recipe.strategies, study),
                {source.name: source for source in found.sources},
                study,
                record,
                clock,
                cluster.at_once,
                watch,
            ).run((recipe.search or Search()).keep, trials=trials)
            return written(recipe, searched, found.sources, found.notes, folder, record)


@contextlib.contextmanager
def _opened(recipe: Recipe, study: Study, key: str) -> Iterator[Run]:
    """The search's run in the experiment of the recipe, the same in every session."""
    client = connect()
    experiment = experiment_named(client, recipe.name)
    with search_run(client, experiment, f"{recipe.name}-search", study.facts.get("run"), key=key) as record:
        study.keep_fact("run", record.id)
        yield record


def _starter(recipe: Recipe, cluster: Cluster, key: str, found: Survey) -> Start:
    """Starts trials: all of them as runs of one package, each with its own source and strategy."""
    package, sections = cluster.package("trial"), recipe.to_sections()
    shared = {key: sections[key] for key in ("name", "modality", "seed", "target_data", "training", "evaluation")}
    shared |= {"search": key, "data_digest": found.data_digest}

    def start(name: str, own: Mapping[str, Any]) -> str:
        return cluster.start(Job(recipe.name, "trial", {**shared, **own}), package, name)

    return start


@dataclass(frozen=True)
class _Before:
    """The runs before the first trial, each once a search; what a session has not seen end, the next one follows."""

    recipe: Recipe
    cluster: Cluster
    study: Study
    record: Run
    clock: Clock
    key: str
    stderr: bool

    def survey(self) -> Survey:
        """What there is to search, the source that the recipe's source data make included."""
        if known := self.study.facts.get("survey"):
            return Survey.of(known)
        candidates = [*self.recipe.source.candidates]
        if self.recipe.source.data:
            alone = pretraining_of(self.recipe)
            unknown = self.recipe.source.data.fingerprint is None
            job = Job(self.recipe.name, "pretrain", alone.to_sections())
            candidates += read_outcome(self._carried_out(job, frozenset({"source"} if unknown else ()))).registered
        sections = self.recipe.to_sections() | {"source_candidates": candidates}
        names = ("name", "modality", "seed", "source_candidates", "target_data", "training")
        job = Job(self.recipe.name, "survey", {name: sections[name] for name in names})
        unknown = self.recipe.target is not None and self.recipe.target.data.fingerprint is None
        parent = self._carried_out(job, frozenset({"target"} if unknown else ()))
        found = surveyed(parent)
        self.study.keep_fact("survey", found.to_dict())
        return found

    def _carried_out(self, job: Job, unknown: frozenset[str]) -> Run:
        """Follow the run of a job to its end, started unless it was; return the parent of its record."""
        name = f"{self.key}-{job.pipeline}"
        known = latest_named(self.cluster.server, name)
        run_id = known.run_id if known else self.cluster.start(job, self.cluster.package(job.pipeline, unknown), name)
        console(stderr=self.stderr).print(f"[bold]{self.recipe.name}[/]  pipeline {job.pipeline}", highlight=False)
        try:
            watch_run(self.cluster.server, run_id, name, stderr=self.stderr)
        finally:
            self.study.keep_fact("seconds", self.clock.spent)
        parent = recorded_run(self.record.client, self.recipe.name, run_id)
        if parent is None:
            raise HeadstartError(
                f"The record that is read here has nothing of the run {name}, which succeeded; set MLFLOW_TRACKING_URI "
                "to the server that the cluster's steps write to."
            )
        return parent


@explained()
def surveyed(parent: Run) -> Survey:
    """The survey that a step below `parent` wrote."""
    below = f"tags.`{PARENT_RUN}` = '{parent.id}' and tags.`{ROLE}` = 'survey' and attributes.status = 'FINISHED'"
    (found,) = parent.client.search_runs([parent.experiment_id], below, max_results=1)
    with tempfile.TemporaryDirectory() as folder:
        path = parent.client.download_artifacts(found.info.run_id, SURVEY, folder)
        return Survey.of(json.loads(Path(path).read_text(encoding="utf-8")))
