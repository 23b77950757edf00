"""What every test relies on: a clean environment, and expensive things that are made once for all test processes."""

import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from headstart.registry import Registry

# Before anything imports torch or mlflow. The developer's own servers, credentials and caches are not the tests'.
for variable in [key for key in os.environ if key.startswith(("MLFLOW_", "HEADSTART_", "KFP_", "AWS_", "_MLFLOW_"))]:
    if variable not in ("HEADSTART_TEST_IMAGE", "HEADSTART_SCREENSHOTS"):
        del os.environ[variable]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# A test module may import mlflow before headstart quiets it.
os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
# The networks of the tests are too small for more threads to pay, and pytest-xdist uses the other cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# The fixtures that several folders share.
pytest_plugins = ["tests.sources"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each of two processes begins with the pipeline runs of one of two workspaces; otherwise one waits for what the
    other runs. pytest-xdist gives each an equal part of the list."""
    parts: dict[str | None, list[pytest.Item]] = {"first": [], "small": [], "fresh": [], None: []}
    for item in items:
        needs = getattr(item, "fixturenames", ())
        # What needs several is told by what comes last.
        parts[next((name for name in ("fresh", "small", "first") if name in needs), None)].append(item)
    begun = [*parts["first"], *parts["small"]]
    rest = len(items) // 2 - len(begun)
    items[:] = [*begun, *parts[None][:rest], *parts["fresh"], *parts[None][rest:]]


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector need not look through it while the tests run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test works in its own folder, sees an empty torch hub, and leaves the environment as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    before = dict(os.environ)
    yield
    for key in os.environ.keys() - before.keys():
        del os.environ[key]
    os.environ.update(before)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`once(name, make)`: the folder `name` that `make` filled, in one of the test processes, once a session."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture
def add_member(monkeypatch: pytest.MonkeyPatch) -> Callable[[Registry, str, object], None]:
    """Makes an object a member of a registry, as an installed package would, until the test ends."""

    def add(registry: Registry, name: str, member: object) -> None:
        monkeypatch.setattr(registry, "_added", {**registry._added, name: EntryPoint(name, "none:NONE", registry.name)})
        monkeypatch.setitem(registry._members, name, member)

    return add
