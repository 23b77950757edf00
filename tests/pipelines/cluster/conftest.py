"""The stand-in for a server, a clock that does not wait, and recipes that a cluster can run."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart_pipelines import catalog
from headstart_pipelines.placement import Placement
from tests.pipelines.cluster.kfp_server import START, KfpServer

ROOT = Path(__file__).parents[3]
PROFILE = ROOT / "infra" / "profiles" / "cpu.yaml"
IMAGE = "registry.example.com/headstart@sha256:" + "a" * 64
TOKEN = "a-token-that-nobody-may-see"


@dataclass
class StandInClock:
    """A clock that sleeping moves; `during` is called at each sleep."""

    at: datetime = START
    slept: list[float] = field(default_factory=list)
    during: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        """The time."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Moves on."""
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)
        assert len(self.slept) < 200, "follows for ever"
        self.during()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> StandInClock:
    """The clock of whoever follows a run."""
    clock = StandInClock()
    monkeypatch.setattr("headstart_pipelines.cluster.clock.now", clock.now)
    monkeypatch.setattr("headstart_pipelines.cluster.clock.sleep", clock.sleep)
    return clock


@pytest.fixture(autouse=True)
def nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither kfp's context, nor variables of kfp, nor S3."""
    for variable in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH",
                     "KUBERNETES_SERVICE_HOST", "SSL_CERT_FILE"):  # fmt: skip
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("kfp.client.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "kfp-context.json"))
    monkeypatch.setattr("headstart_pipelines.resolve.fingerprint", lambda uri: f"etag:{len(uri)}")


_compiled: dict[tuple[Any, ...], str] = {}


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pipeline, placed in the same way, is compiled once for all tests: the same package, in less time."""

    def compile_pipeline(name: str, output: Path, placement: Placement, *, allow_tag: bool = False) -> None:
        key = (name, repr(placement), allow_tag)
        if key not in _compiled:
            catalog.compile_pipeline(name, output, placement, allow_tag=allow_tag)
            _compiled[key] = output.read_text()
        output.write_text(_compiled[key])

    monkeypatch.setattr("headstart_pipelines.cluster.submission.compile_pipeline", compile_pipeline)


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    """A server; the test fails if a request to it was not as KFP's API wants it."""
    with KfpServer() as server:
        monkeypatch.setenv("HEADSTART_KFP_HOST", server.host)
        yield server
        assert server.problems == []


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe file whose data is in S3; sections replace those."""
    number = itertools.count()

    def write(**sections: Any) -> Path:
        path = tmp_path / f"recipe{next(number)}.yaml"
        whole = {
            "name": "digits",
            "source": {"data": {"uri": "s3://data/mnist"}},
            "target": {"data": {"uri": "s3://data/digits"}},
            "strategies": ["zero", "full"],
        }
        path.write_text(yaml.safe_dump({**whole, **sections}))
        return path

    return write


@pytest.fixture
def submit(cli: Callable[..., Any], recipe: Callable[..., Path]) -> Callable[..., Any]:
    """Submits a recipe with a profile and an image, unless other options come after them."""

    def call(*options: object, **sections: Any) -> Any:
        return cli("submit", recipe(**sections), "--profile", PROFILE, "--image", IMAGE, *options)

    return call


@pytest.fixture
def run_id(kfp: KfpServer, submit: Callable[..., Any]) -> str:
    """The id of a run that was submitted."""
    assert submit().code == 0
    return str(kfp.runs[-1]["run_id"])
