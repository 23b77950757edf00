"""Trials of a search as runs on a cluster, several at a time, until the budget ends.

The study knows which run carries out which trial from the moment before it is started, so that a further session finds
the runs again; what they found is read from MLflow's record.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError
from headstart.searching.clock import Clock
from headstart.searching.inputs import Source
from headstart.searching.loop import BEHIND, Watch
from headstart.searching.pods import read_trial
from headstart.searching.proposals import Proposals
from headstart.searching.searched import Searched, conclude, place_of
from headstart.searching.study import Sent, Study
from headstart.searching.study import given as given_strategy
from headstart.searching.trial import State, Tried, complete, settings
from headstart.tracking.names import TRIAL_RUN
from headstart.tracking.runs import Run as Record
from headstart.tracking.runs import end
from headstart.tracking.trials import TrialRecord, end_trial, new_trial, trial_records
from headstart.training.trained import held_out_path
from headstart_pipelines.cluster import clock
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.run_state import read_run_state
from headstart_pipelines.cluster.runs import FINAL, latest_named, word_of
from headstart_pipelines.cluster.submission import MaybeStartedError
from headstart_pipelines.cluster.transport import NotFoundError, UnansweredError

if TYPE_CHECKING:
    from optuna.trial import Trial

_POLL_SECONDS = 5.0
# An API server that is upgraded or moved to another node is back within this time.
_PATIENCE_SECONDS = 900.0

Start = Callable[[str, Mapping[str, Any]], str]
"""Starts a run of the pipeline `trial` with this name, `source` and `strategy`; returns its id."""


@dataclass
class ClusterTrials:
    """A search for one target, whose trials a cluster carries out.

    Args:
        start: starts a trial.
        names: what the runs' names begin with.
        metric: of the recipe's evaluation.
        record: the search's own run.
        at_once: the most trials that are at work at a time.
    """

    server: Server
    start: Start
    names: str
    metric: str
    proposals: Proposals
    sources: Mapping[str, Source]
    study: Study
    record: Record
    clock: Clock
    at_once: int
    watch: Watch | None = None
    _unanswered_since: datetime | None = field(default=None, init=False)

    def run(self, keep: int, *, trials: int | None = None) -> Searched:
        """Try what `Proposals` says until the budget in time or in `trials` ends; choose the `keep` best.

        Raises:
            HeadstartError: no trial was complete, the cluster refuses a run, or does not answer for a long time. Runs
                that are at work go on, and so does a further session with them.
        """
        return conclude(self.study, self.clock, self._try_all(trials), keep)

    def _try_all(self, trials: int | None) -> str:
        while True:
            reason = self._answered(lambda: self._turn(trials))
            self.study.keep_fact("seconds", self.clock.spent)
            if not self.clock.left:
                self._stop_all()
                return self.clock.over
            if reason and not self.study.at_work:
                return reason
            if self.watch:
                self.watch.at_work([sent.strategy["name"] for _, sent, _ in self.study.at_work], self.clock.left)
            clock.sleep(_POLL_SECONDS)

    def _answered(self, ask: Callable[[], str | None]) -> str | None:
        """Ask the server; one that does not answer is asked again for a while."""
        try:
            answer = ask()
        except (UnansweredError, MaybeStartedError):
            self._unanswered_since = self._unanswered_since or clock.now()
            if (clock.now() - self._unanswered_since).total_seconds() >= _PATIENCE_SECONDS:
                raise
            return None
        self._unanswered_since = None
        return answer

    def _turn(self, trials: int | None) -> str | None:
        """Look at the trials at work, and start as many as may be beside them; return why no further one will be, None
        where one may."""
        records = trial_records(self.record)
        for trial, sent, reported in self.study.at_work:
            self._look(trial, self._started(trial, sent), reported, records)
        while self.clock.left and len(self.study.at_work) < self.at_once:
            if trials is not None and len(self.study.tried) + len(self.study.at_work) >= trials:
                return f"{trials} trials were made"
            proposal = self.proposals.next()
            if proposal is None:
                return self.proposals.end
            number = len(self.study.tried) + len(self.study.at_work) + 1
            sent = Sent(proposal.candidate.name, settings(proposal.strategy), f"{self.names}-{proposal.trial.number}")
            # Before its run is started, so that a further session looks for it.
            self.study.send(proposal.trial, sent)
            self._started(proposal.trial, sent, is_new=True)
            if self.watch:
                self.watch.began(number, proposal.strategy, proposal.candidate.name, self.clock.left)
        return None

    def _started(self, trial: "Trial", sent: Sent, *, is_new: bool = False) -> Sent:
        """Start the run of a trial, unless that has been done."""
        if sent.run_id is not None:
            return sent
        run = None if is_new else latest_named(self.server, sent.run)
        given = {"source": self.sources[sent.source].reference, "strategy": sent.strategy}
        sent = replace(sent, run_id=run.run_id if run else self.start(sent.run, given))
        self.study.send(trial, sent)
        return sent

    def _look(self, trial: "Trial", sent: Sent, reported: int, records: Mapping[str, TrialRecord]) -> None:
        """Read how a trial at work is: tell one that ended, and end one that is behind the others."""
        record = records.get(str(sent.run_id))
        try:
            run = self.server.runs.run_service_get_run(sent.run_id)
        except NotFoundError:
            self._tell(trial, sent, record, "failed", f"its run {sent.run} was deleted")
            return
        if run.state in FINAL:
            # With what the pod wrote after the records were read.
            record = trial_records(self.record).get(run.run_id)
        new = record.quarters()[reported:] if record else []
        for quarter, loss in new:
            trial.report(loss, quarter)
        if run.state == "SUCCEEDED":
            self._complete(trial, sent, record)
        elif run.state in FINAL and sent.pruned:
            self._tell(trial, sent, record, "pruned", sent.pruned)
        elif run.state in FINAL:
            self._tell(trial, sent, record, "failed", self._reason(run, record))
        elif new and not sent.pruned and given_strategy(trial) is None and trial.should_prune():
            self._terminate(str(sent.run_id))
            self.study.send(trial, replace(sent, pruned=BEHIND.format(new[-1][0])))

    def _complete(self, trial: "Trial", sent: Sent, record: TrialRecord | None) -> None:
        if record is None or record.state != "complete":
            raise HeadstartError(
                f"The record that is read here has no trial of the run {sent.run}, which succeeded; set "
                "MLFLOW_TRACKING_URI to the server that the cluster's steps write to."
            )
        place = held_out_path(place_of(self.study, trial.number))
        self._ended(trial, read_trial(record, trial.number, sent, self.metric, place))

    def _tell(self, trial: "Trial", sent: Sent, record: TrialRecord | None, state: State, reason: str) -> None:
        """End a trial that is not complete, also in the record, where its pod could not."""
        if record is None or record.state is None:
            run = record.run if record else new_trial(
                self.record, sent.strategy["name"], sent.source, sent.strategy, {TRIAL_RUN: str(sent.run_id)}
            )  # fmt: skip
            end_trial(run, state, {}, reason=reason)
        seconds = record.seconds if record else 0.0
        self._ended(trial, Tried(trial.number, sent.source, sent.strategy, state, seconds, reason=reason))

    def _ended(self, trial: "Trial", tried: Tried) -> None:
        self.study.tell(trial, tried)
        if self.watch:
            self.watch.ended(tried, next(iter(complete(self.study.tried)), None))

    def _reason(self, run: Run, record: TrialRecord | None) -> str:
        """Why a run did not succeed: as its step says in the record, else as the cluster says."""
        if record and record.reason:
            return record.reason
        if word_of(run) == "terminated":
            return f"its run {run.display_name} was terminated"
        failed = next((each for each in read_run_state(self.server, run).states if each.word == "failed"), None)
        return f"its run {run.display_name} failed: {(failed and failed.reason) or 'no reason is told'}"

    def _stop_all(self) -> None:
        """Terminate what is at work; it waits for a further session, which goes on from its checkpoint."""
        for trial, sent, _ in self.study.at_work:
            # A run that was deleted needs no end.
            with contextlib.suppress(NotFoundError):
                if sent.run_id is not None:
                    self._terminate(sent.run_id)
            self.study.postpone(trial)
        for record in trial_records(self.record).values():
            if record.is_open:
                end(record.run, "KILLED")

    def _terminate(self, run_id: str) -> None:
        run = self.server.runs.run_service_get_run(run_id)
        if run.state not in FINAL and run.state != "CANCELING":
            self.server.runs.run_service_terminate_run(run_id)
