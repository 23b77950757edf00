"""The parts of a search that pods carry out: the survey of what there is to search, once, and each trial.

Whoever leads the search reads what they found from MLflow's record.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.data.dataset import Dataset
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import bundle_digest
from headstart.models.reference import unpinned
from headstart.models.sources import load_source
from headstart.searching.inputs import Source, load_sources, prepared_target, require_held_out
from headstart.searching.searched import figures
from headstart.searching.space import Candidate
from headstart.searching.study import Sent
from headstart.searching.trial import Goal, Tried, attempt, settings
from headstart.strategies.section import Strategy
from headstart.tracking import registry
from headstart.tracking.client import await_server, connect
from headstart.tracking.runs import Run
from headstart.tracking.trials import QUARTER_LOSS, TrialRecord, end_trial, pod_trial_run, search_named
from headstart.training.progress import progress
from headstart.training.section import Training
from headstart.training.trained import HELD_OUT

FINAL_SECONDS = "search/final_seconds"
"""The metric of a trial that says what training it anew in the final run takes."""
SURVEY = "survey.json"
"""The artifact that holds the survey."""


@dataclass(frozen=True)
class Survey:
    """What there is to search: the digest of the packed target, the epochs that the rule for its size gives a
    fine-tuning, the sources, and notes on those that are left out."""

    data_digest: str
    epochs: int
    sources: tuple[Source, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Survey":
        """The survey that `to_dict` took apart."""
        sources = tuple(Source(**{**each, "candidate": Candidate(**each["candidate"])}) for each in values["sources"])
        return cls(values["data_digest"], values["epochs"], sources, tuple(values["notes"]))


def survey_of(dataset: Dataset, candidates: Sequence[str], training: Training) -> Survey:
    """Look at the packed target and at the candidates.

    Raises:
        InputError: no labels are held out, or a candidate cannot be reached or does not fit the target.
    """
    require_held_out(dataset, "the target")
    with tempfile.TemporaryDirectory() as folder:
        found = load_sources(candidates, dataset, Path(folder))
    epochs = Goal(dataset, training, "accuracy", seed=0).epochs
    return Survey(dataset.digest, epochs, found.searched, found.notes)


@dataclass(frozen=True)
class PodTrial:
    """One trial: the experiment and the key of its search, the recipe's sections, the pinned source."""

    experiment: str
    search: str
    modality: str
    seed: int
    source: str
    data: Data
    data_digest: str
    strategy: Strategy


def try_in_pod(given: PodTrial, training: Training, evaluation: Evaluation) -> dict[str, float | None]:
    """Carry out a trial, write its curve, its figures and its held-out predictions to the record, and return the
    figures by their names there.

    Raises:
        InputError: the source cannot be transferred so, or the target is not what the search began with.
        HeadstartError: the loss is no longer a finite number, or there is no such search in the record.
    """
    client = connect()
    await_server(client.tracking_uri)
    parent = search_named(client, given.experiment, given.search)
    strategy, source = given.strategy, unpinned(given.source)
    with (
        tempfile.TemporaryDirectory() as folder,
        pod_trial_run(parent, strategy.name, source, settings(strategy)) as run,
    ):
        try:
            found, held_out = _attempted(given, training, evaluation, Path(folder), run)
        except HeadstartError as error:
            end_trial(run, "failed", {}, reason=str(error))
            raise
        held_out.save(Path(folder, HELD_OUT))
        run.log_artifact(Path(folder, HELD_OUT))
        tried = Tried(0, source, settings(strategy), "complete", **found)
        shown = {**figures(tried, evaluation.metric), FINAL_SECONDS: tried.final_seconds}
        end_trial(run, "complete", shown)
    return shown


def _attempted(
    given: PodTrial, training: Training, evaluation: Evaluation, folder: Path, run: Run
) -> tuple[dict[str, Any], Predictions]:
    dataset = prepared_target(given.data, folder / "target", modality=given.modality, seed=given.seed, run_id=run.id)
    if dataset.digest != given.data_digest:
        raise InputError(
            f"The samples of {given.data.uri} are no longer those that the search {given.search} began with; begin a "
            "new one, with another --workspace."
        )
    load_source(given.source, modality=given.modality, fetch_registered=registry.fetch).save(folder / "source")
    goal = Goal(dataset, training, evaluation.metric, given.seed, evaluation.confidence, evaluation.seeds)
    return attempt(
        given.strategy,
        folder / "source",
        goal,
        reference=given.source,
        digest=bundle_digest(folder / "source"),
        on_epoch=run.log_epoch,
        on_quarter=lambda quarter, loss: run.log_metrics({QUARTER_LOSS: loss}, step=quarter),
        progress=progress(),
    )


def read_trial(record: TrialRecord, number: int, sent: Sent, metric: str, place: Path) -> Tried:
    """The trial that a pod completed, by its record; its held-out predictions are written to `place`.

    Raises:
        HeadstartError: MLflow does not hand out the predictions.
    """
    record.download(HELD_OUT, place)
    shown = record.metrics
    return Tried(
        number,
        sent.source,
        sent.strategy,
        "complete",
        shown["time/seconds"],
        loss=shown["val/log_loss"],
        value=shown[f"val/best_{metric}"],
        low=shown[f"val/best_{metric}_low"],
        high=shown[f"val/best_{metric}_high"],
        final_seconds=shown[FINAL_SECONDS],
    )
