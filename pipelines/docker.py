"""Steps in containers on this machine: what is given to Docker, and how a container is run.

A container has what its step needs and nothing more: the data and sources of the recipe to read, the pipeline's
artifacts, the local MLflow store and what steps keep for later to write, a network only where MLflow or that is behind
one, and the caller's user.
"""

import contextlib
import ipaddress
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from headstart.config import Recipe
from headstart.errors import InputError
from headstart.models.reference import unpinned
from headstart.storage.s3 import is_s3
from headstart.storage.state import STATE_VARIABLE
from headstart.tracking.client import connect
from pipelines.execution import executed_by

# What of the caller's environment a step may see: addresses, credentials, settings. It goes to the container alone,
# neither into the compiled pipeline nor into the cache key.
_PASSED = ("HEADSTART_", "MLFLOW_", "AWS_", "OMP_")

_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class Image:
    """An image on this machine: a name that kfp.local finds it by, and the digest of its content."""

    name: str
    id: str


def find_image(name: str) -> Image:
    """The image that steps will run in.

    Raises:
        InputError: Docker's Python package is missing, Docker does not answer, or it has no such image.
    """
    try:
        import docker
    except ImportError:
        raise InputError(
            "--runner docker needs Docker's Python package; install it: pip install 'headstart[docker]'."
        ) from None
    try:
        with contextlib.closing(docker.from_env()) as client:
            image = client.images.get(name)
    except docker.errors.ImageNotFound:
        raise InputError(
            f"Docker has no image {name} on this machine; build it (make image IMAGE={name}), pull it, or name another "
            "with --image."
        ) from None
    except docker.errors.DockerException as error:
        raise InputError(
            f"Docker does not answer ({error}); start it, or let the steps run without it: --runner subprocess."
        ) from None
    # kfp.local looks an image up among these names, and would pull one that is called otherwise.
    names = [*image.tags, *image.attrs["RepoDigests"]]
    if not names:
        raise InputError(f"The image {name} has no name of its own; give it one: docker tag {name} headstart:local.")
    return Image(name if name in names else names[0], image.id)


def container_options(recipe: Recipe, pipeline_root: Path) -> dict[str, Any]:
    """What `docker run` is told for each step of a resolved recipe; MLflow is where the environment says.

    Paths are the same in the container as outside, so that the artifacts' URIs hold for both.
    """
    from docker.types import Mount

    environment = {key: value for key, value in os.environ.items() if key.startswith(_PASSED)}
    store = urlsplit(environment["MLFLOW_TRACKING_URI"])
    locations = [experiment.artifact_location for experiment in connect().search_experiments()]
    # Certificates and credentials may be files that the environment names.
    readable = [Path(value) for value in environment.values() if value.startswith("/")]
    readable += [Path(section.data.uri) for section in (recipe.source, recipe.target) if section and section.data]
    readable += filter(None, map(_local_path, map(unpinned, recipe.source.candidates)))
    writable = list(filter(None, map(_local_path, locations)))
    if store.scheme == "sqlite":
        database = Path(store.path.removeprefix("/")).absolute()
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
        # SQLite writes its journal beside the database.
        writable.append(database.parent)
    state = environment.get(STATE_VARIABLE)
    if state and not is_s3(state):
        folder = Path(state).absolute()
        environment[STATE_VARIABLE] = str(folder)
        # Docker mounts only what is there.
        folder.mkdir(parents=True, exist_ok=True)
        writable.append(folder)
    if any(uri.startswith("torchvision://") for uri in recipe.source.candidates):
        import torch

        hub = Path(torch.hub.get_dir())
        environment["TORCH_HOME"] = str(hub.parent)
        readable.append(hub)
    # Docker would make what is missing, as root.
    pipeline_root.mkdir(parents=True, exist_ok=True)
    modes = dict.fromkeys(readable, True) | dict.fromkeys(writable, False)
    return {
        "environment": environment,
        "mounts": [
            Mount(str(path), str(path), type="bind", read_only=read_only)
            for path, read_only in modes.items()
            if path.exists()
        ],
        "network_mode": _network([*environment.values(), *locations]),
        "user": f"{os.getuid()}:{os.getgid()}",
        "read_only": True,
        "tmpfs": {"/tmp": ""},  # noqa: S108 (the container's)
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
    }


def containers() -> AbstractContextManager[None]:
    """Has kfp.local's DockerRunner run containers by `Containers`, and ends them when this process is interrupted.

    kfp.local's own way takes a step whose container is gone before its status was asked for as done, which befell one
    in five failing steps, and leaves containers running after Ctrl-C.
    """
    from kfp.local import docker_task_handler

    return executed_by(Containers(), docker_task_handler, "run_docker_container")


@dataclass
class Containers:
    """The containers of one pipeline run."""

    _running: list[Any] = field(default_factory=list)
    _stopped: bool = False

    def run(self, client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
        """Runs `command`, prints what it writes and returns its exit status; the container is gone afterwards."""
        import docker

        container = None
        try:
            container = client.containers.create(image, command, volumes=volumes, **options)
            self._running.append(container)
            if self._stopped:
                return _KILLED
            container.start()
            for line in _lines(container.logs(stream=True, follow=True)):
                print(line)
            status = int(container.wait()["StatusCode"])
            if status == _KILLED:
                print("MemoryError: the step was killed, most likely because memory ran out.")
            return status
        except docker.errors.DockerException as error:
            # Not raised: kfp.local swallows what a step in a loop raises.
            if not self._stopped:
                print(f"HeadstartError: Docker refused to run the step: {error}")
            return _KILLED
        finally:
            if container:
                self._running.remove(container)
                _remove(container)

    def stop(self) -> None:
        """Ends what runs, and lets nothing start any more: kfp.local begins the next step even when interrupted."""
        self._stopped = True
        for container in list(self._running):
            _remove(container)


def _remove(container: Any) -> None:
    import docker

    # Gone, or going: 404 and 409.
    with contextlib.suppress(docker.errors.APIError):
        container.remove(force=True)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of text from chunks that end anywhere, within a character even."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _local_path(uri: str) -> Path | None:
    """The path that a file:// URI or a plain absolute path names; None for anything that lies elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def _network(addresses: Iterable[str]) -> str:
    """Docker's network mode for a step that must reach these addresses; those without a host are on this machine."""
    hosts = {host for address in addresses if (host := urlsplit(address).hostname)}
    if not hosts:
        return "none"
    # From a bridge, this machine's loopback cannot be reached.
    return "host" if any(map(_is_loopback, hosts)) else "bridge"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
