"""A machine may be taken away at any moment: what is trained in the end is what would have been trained.

Each training runs in a process that is really killed, or really terminated, at a moment drawn from those of a run that
nobody disturbed: so many modules computed and steps made, and so many seconds after the last of them. What comes next
is another process, which has only the state. No service is needed; it takes minutes.
"""

import bisect
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart_pipelines.demo import digits, write_folder
from tests.services.preempted import BEGUN, CASES, SOURCE, STEP, TRAINED, TRANSFORMER, untrained

pytestmark = pytest.mark.services

# Of each signal for each case: 30 and 30.
MOMENTS = 2
_PATIENCE_SECONDS = 60
_GOES_ON, _STOPS = "goes on from its checkpoint", "its checkpoint is kept"


@dataclass
class _Run:
    """A training that came to an end: how, what it said, and its moments with their times in seconds."""

    code: int
    log: str
    moments: bytearray = field(default_factory=bytearray)
    times: list[float] = field(default_factory=list)
    end: float = 0.0

    @property
    def steps(self) -> int:
        return self.moments.count(STEP)

    def has_a_step_after(self, number: int) -> bool:
        """Whether the training of the moment of that number, counted from 1, makes a step after it; between two
        trainings there is nothing to keep."""
        what = next((what for what in self.moments[number:] if what in (STEP, TRAINED)), None)
        begun = STEP in self.moments[max(self.moments.rfind(TRAINED, 0, number), 0) : number]
        return begun and what == STEP


@dataclass(frozen=True)
class _Moment:
    """`seconds` after the moment of that number, counted from 1."""

    number: int
    seconds: float


class _Trainer:
    """The process whose forks train."""

    def __init__(self, process: subprocess.Popen[bytes], sources: Path) -> None:
        self._process, self.sources = process, sources
        self._buffer = b""

    def run(
        self,
        case: dict[str, Any],
        dataset: Dataset,
        folder: Path,
        *,
        state: Path | None,
        end: tuple[signal.Signals, _Moment] | None = None,
    ) -> _Run:
        """Trains into `folder`/bundle; `end` is what befalls the process, and when."""
        log = folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        environment = {"HEADSTART_CHECKPOINT_SECONDS": "0", **({"HEADSTART_STATE": str(state)} if state else {})}
        request = {
            "case": case, "dataset": str(dataset.path), "sources": str(self.sources), "log": str(log),
            "bundle": str(folder / "bundle"), "environment": environment,
        }  # fmt: skip
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        process = int(self._line())
        run = _Run(0, "")
        while (byte := self._byte()) != b"\n":
            run.moments += byte
            run.times.append(time.perf_counter())
            if end and len(run.moments) == end[1].number:
                time.sleep(end[1].seconds)
                # It may be done already, and what it still has to say must be read all the same.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, end[0])
        run.end = time.perf_counter()
        run.code, run.log = int(self._line()), log.read_text()
        return run

    def _line(self) -> bytes:
        line = b""
        while (byte := self._byte()) != b"\n":
            line += byte
        return line

    def _byte(self) -> bytes:
        if not self._buffer:
            assert select.select([self._process.stdout], [], [], _PATIENCE_SECONDS)[0], "the training hangs"
            self._buffer = os.read(self._process.stdout.fileno(), 65_536)
            assert self._buffer, "the process that trains is gone"
        byte, self._buffer = self._buffer[:1], self._buffer[1:]
        return byte


def _packed(root: Path, chosen: np.ndarray, names: np.ndarray) -> Dataset:
    images, _ = digits()
    write_folder(images[chosen], names, root / "pictures")
    return prepare(
        Data.of({"uri": str(root / "pictures"), "size": 16, "split": {"train": 0.5, "val": 0.3, "test": 0.2}}),
        root / "packed",
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Some hundred pictures of digits, odd and even, 16 pixels a side: features of the source do not tell that well."""
    chosen = np.arange(360)
    return _packed(tmp_path_factory.mktemp("parity"), chosen, np.array(["even", "odd"])[digits()[1][chosen] % 2])


@pytest.fixture(scope="module")
def trainer(dataset, tmp_path_factory) -> Iterator[_Trainer]:
    root = tmp_path_factory.mktemp("preempted")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(root / "cache")}
    sources = root / "sources"
    transformer = untrained(TRANSFORMER, dataset)
    # Training begins with a new head: one that is carried over stays where little data cannot tell that it is worse.
    transformer.provenance["head"] = "none"
    transformer.save(sources / "transformer")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.services.preempted"],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        made = _Trainer(process, sources)
        try:
            chosen = 600 + np.flatnonzero(digits()[1][600:] < 5)[:600]
            few = _packed(root, chosen, digits()[1][chosen])
            source = made.run(SOURCE, few, root / "source", state=None)
            assert source.code == 0, source.log
            (root / "source" / "bundle").rename(sources / "convnet")
            yield made
        finally:
            process.stdin.close()
            process.wait(_PATIENCE_SECONDS)


@dataclass(frozen=True)
class _Undisturbed:
    """What a case comes to, and when what happens in it."""

    bundle: Path
    run: _Run

    @property
    def digest(self) -> str:
        return bundle_digest(self.bundle)

    def moment(self, random: np.random.Generator, *, training: bool) -> _Moment:
        """One drawn evenly over the time of the run, or of its training."""
        times = self.run.times
        steps = [when for what, when in zip(self.run.moments, times, strict=True) if what == STEP]
        first, last = (steps[0], steps[-1]) if training and steps else (times[0], self.run.end)
        drawn = random.uniform(first, last)
        number = max(bisect.bisect(times, drawn), 1)
        return _Moment(number, max(drawn - times[number - 1], 0.0))


@pytest.fixture(scope="module")
def undisturbed(trainer, dataset, tmp_path_factory):
    """`undisturbed(case)`: the case run without a state and with one, which come to the same bundle."""
    known: dict[str, _Undisturbed] = {}

    def run(case: str) -> _Undisturbed:
        if case not in known:
            root = tmp_path_factory.mktemp("undisturbed")
            plain = trainer.run(CASES[case], dataset, root / "plain", state=None)
            assert plain.code == 0, plain.log
            kept = trainer.run(CASES[case], dataset, root / "kept", state=root / "state")
            assert kept.code == 0, kept.log
            known[case] = _Undisturbed(root / "plain" / "bundle", kept)
            assert bundle_digest(root / "kept" / "bundle") == known[case].digest
        return known[case]

    return run


@pytest.mark.parametrize("case", CASES)
def test_what_is_compared_has_trained(trainer, undisturbed, dataset, case):
    """What can move has moved, or being equal would say nothing."""
    section = CASES[case]
    bundle = ModelBundle.load(undisturbed(case).bundle)
    if "strategy" in section:
        start = ModelBundle.load(trainer.sources / section["source"])
    else:
        start = untrained("convnet", dataset)
    before, after = start.network.stages.state_dict(), bundle.network.stages.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    if case in ("zero", "linear_probe"):
        assert not moved
    else:
        assert len(moved) >= len(before) // 4
        assert undisturbed(case).run.steps >= 8


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("case", CASES)
def test_a_training_that_is_ended_at_any_moment_ends_as_if_nothing_had_happened(
    trainer, undisturbed, dataset, case, number, tmp_path
):
    expected = undisturbed(case)
    random = np.random.default_rng([number, list(CASES).index(case)])
    for attempt in range(MOMENTS):
        # Where the process is quicker this time, it may have been done before; another moment is then drawn.
        for draw in range(20):
            moment = expected.moment(random, training=attempt == 0)
            folder, state = tmp_path / f"{attempt}-{draw}", tmp_path / f"state-{attempt}-{draw}"
            ended = trainer.run(CASES[case], dataset, folder, state=state, end=(number, moment))
            if ended.code:
                break
        said = f"{case}: {number.name} {moment}\n{ended.log}"
        assert ended.moments[0] == BEGUN, said
        assert ended.code == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}[number], said
        again = trainer.run(CASES[case], dataset, folder, state=state)
        said = f"{said}\n{again.log}"
        assert again.code == 0, said
        assert bundle_digest(folder / "bundle") == expected.digest, said
        # There is a checkpoint after each step; that of the last one may be what it was ended in.
        if ended.steps > 1 or _STOPS in ended.log:
            assert _GOES_ON in again.log, said
            assert again.steps <= expected.run.steps - ended.steps + 1, said
        if number == signal.SIGTERM and expected.run.has_a_step_after(moment.number):
            assert _STOPS in ended.log, said
