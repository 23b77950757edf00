"""A preparation that is killed leaves a whole data set or none, and the next run makes the same one."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from headstart.data.dataset import SPLITS, Dataset
from headstart.errors import InputError

MOMENTS = 15


def in_child(work: Callable[[], object], *, kill_at: int | None = None) -> int:
    """Runs `work` in a copy of this process; how many calls into headstart it made. It kills itself at one of them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0

        def count(frame: FrameType, event: str, _: Any) -> None:
            nonlocal calls
            if event == "call" and "headstart" in frame.f_code.co_filename:
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        work()
        sys.setprofile(None)
        os.write(writing, str(calls).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (kill_at is not None)
    with os.fdopen(reading) as answer:
        return int(answer.read() or 0)


@pytest.mark.parametrize("over_an_older_one", [False, True])
def test_killed_at_any_moment_it_leaves_all_or_nothing(
    tmp_path: Path, folder: Path, pack: Callable[..., Dataset], over_an_older_one: bool
) -> None:
    older = pack(folder, seed=1).digest, [pack(folder, seed=1).split_digest(name) for name in SPLITS]
    expected = pack(folder, destination=tmp_path / "expected")
    calls = in_child(lambda: pack(folder, destination=tmp_path / "counted"))
    place = tmp_path / "packed"
    for moment in range(1, MOMENTS + 1):
        destination = place if over_an_older_one else tmp_path / f"packed{moment}"
        in_child(
            lambda destination=destination: pack(folder, destination=destination),  # type: ignore[misc]
            kill_at=max(1, calls * moment // MOMENTS - moment % 3),
        )
        if over_an_older_one:
            found = Dataset.open(place)
            splits = [found.split_digest(name) for name in SPLITS]
            assert (found.digest, splits) in [older, (expected.digest, [expected.split_digest(n) for n in SPLITS])]
        elif destination.exists():
            assert Dataset.open(destination).manifest == expected.manifest
        else:
            with pytest.raises(InputError, match="is not a packed data set"):
                Dataset.open(destination)
        again = pack(folder, destination=destination)
        assert (again.path / "train.npy").read_bytes() == (expected.path / "train.npy").read_bytes()
        assert again.manifest == expected.manifest
