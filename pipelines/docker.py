"""Docker: steps in containers on this machine, with their options and supervision.

A container gets only what its step needs: read access to the recipe's data and sources; write access to the pipeline's
artifacts, the local MLflow store and the state; a network only if MLflow or the data are behind one; no privileges; and
the GPUs. It never runs as root: its user is the caller, so that files belong to the caller, or if root calls, the
image's user, who then gets ownership of what steps write.
"""

import codecs
import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from headstart.data.kinds.torchvision import FOLDER_VARIABLE, datasets_folder, is_published
from headstart.data.reference import place_to_read
from headstart.errors import InputError
from headstart.models.reference import unpinned
from headstart.recipe.recipe import Recipe
from headstart.storage.cache import CACHE_VARIABLE
from headstart.storage.s3 import is_s3
from headstart.storage.state import STATE_VARIABLE
from headstart.terminal import lines_of
from headstart.tracking.client import PAGE_VARIABLE, connect, shown_to_people
from headstart.tracking.database import address, file_of
from headstart_pipelines.network import NETWORK_VARIABLE, choose
from headstart_pipelines.runner.processes import Step
from headstart_pipelines.watchdog import LABEL, MARK_VARIABLE

# Prefixes of the environment variables passed to steps: addresses, credentials, settings. They go to the container
# only, neither into the compiled pipeline nor into the cache key.
_PASSED = ("HEADSTART_", "MLFLOW_", "AWS_", "OMP_", "GOMP_")

# Shared memory for torch's data loaders; only what is used takes memory. Docker's default is 64 MB.
_SHARED_MEMORY = "2g"
# More than a step's loaders and threads need, and few enough to contain a fork bomb.
_PROCESSES = 4096

_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class Image:
    """A local image: a name that Docker can resolve, the digest of its content, and its user."""

    name: str
    id: str
    user: str


def find_image(name: str) -> Image:
    """Find the image for the steps.

    Raises:
        InputError: Docker's Python package is missing, Docker does not answer, it lacks the image or the network that
            HEADSTART_DOCKER_NETWORK names, or steps would run as root.
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
            choose(client, [os.environ.get("MLFLOW_TRACKING_URI", "")], os.environ.get(NETWORK_VARIABLE))
    except docker.errors.ImageNotFound:
        raise InputError(
            f"Docker has no image {name} on this machine; build it (make image IMAGE={name}), pull it, or name another "
            "with --image."
        ) from None
    except docker.errors.DockerException as error:
        raise InputError(
            f"Docker does not answer ({error}); start it, or let the steps run without it: --runner subprocess."
        ) from None
    # An image without a name cannot be named to Docker.
    names = [*image.tags, *image.attrs["RepoDigests"]]
    if not names:
        raise InputError(f"The image {name} has no name of its own; give it one: docker tag {name} headstart:local.")
    found = Image(name if name in names else names[0], image.id, image.attrs["Config"].get("User") or "")
    _user(found)
    return found


@dataclass(frozen=True)
class Container:
    """The options of `docker run` for each step, and a note about them for the user, which may be empty."""

    options: dict[str, Any]
    note: str


def container(recipe: Recipe, pipeline_root: Path, image: Image) -> Container:
    """Return the container options of each step of a resolved recipe; MLflow's address is taken from the environment.

    Paths are the same inside and outside of the container, so that the artifacts' URIs are valid in both.

    Raises:
        InputError: root is the caller and also the image's user, or the user may not write where steps must; the
            network that HEADSTART_DOCKER_NETWORK names is unknown or lacks a server.
    """
    import docker

    user = _user(image)
    environment = {key: value for key, value in os.environ.items() if key.startswith(_PASSED)}
    locations = {experiment.name: experiment.artifact_location for experiment in connect().search_experiments()}
    data = [section.data.uri for section in (recipe.source, recipe.target) if section and section.data]
    candidates = [unpinned(uri) for uri in recipe.source.models]
    # Variables may name files with certificates and credentials.
    readable = [Path(value) for value in environment.values() if value.startswith("/")]
    readable += filter(None, map(_local_path, [*candidates, *locations.values()]))
    readable += filter(None, map(place_to_read, data))
    if any(map(is_published, data)):
        environment[FOLDER_VARIABLE] = str(datasets_folder())
    if any(uri.startswith("torchvision://") for uri in candidates):
        import torch

        hub = Path(torch.hub.get_dir())
        environment["TORCH_HOME"] = str(hub.parent)
        readable.append(hub)
    # Steps write only to their own experiment.
    artifacts = _local_path(locations[recipe.name]) if recipe.name in locations else None
    folders = [pipeline_root, *_own_folders(environment), *([artifacts] if artifacts else [])]
    database = _database(environment)
    _let_write(user, folders, database, workspace=pipeline_root.parent)
    # SQLite writes its journal next to the database.
    modes = dict.fromkeys(readable, True) | dict.fromkeys([*folders, *([database.parent] if database else [])], False)
    with contextlib.closing(docker.from_env()) as client:
        addresses = [*environment.values(), *locations.values(), *data, *candidates]
        network = choose(client, _servers(addresses, environment), os.environ.get(NETWORK_VARIABLE))
        gpus = _gpus(client.info(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    page = shown_to_people(environment["MLFLOW_TRACKING_URI"])
    environment = {key: network.inside(value) for key, value in environment.items()}
    options = {
        "environment": {PAGE_VARIABLE: page, **environment},
        "labels": {LABEL: os.environ.get(MARK_VARIABLE, "")},
        "mounts": [
            docker.types.Mount(str(path), str(path), type="bind", read_only=read_only)
            for path, read_only in modes.items()
            if path.exists() and path != pipeline_root
        ],
        "network_mode": network.mode,
        "user": user,
        "read_only": True,
        "tmpfs": {"/tmp": ""},  # noqa: S108 (the container's)
        "shm_size": _SHARED_MEMORY,
        "pids_limit": _PROCESSES,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "device_requests": gpus,
    }
    return Container(options, network.note)


def _user(image: Image) -> str:
    """Return the numeric user and group of the containers; never root.

    Raises:
        InputError: root calls and the image has no other user.
    """
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    found = re.fullmatch(r"([1-9]\d*)(?::(\d+))?", image.user)
    if not found:
        raise InputError(
            f"The image {image.name} runs as {image.user or 'root'}, and steps never run as root; give it a user by "
            "number (USER 10001:10001 in its Dockerfile), or run headstart as an ordinary user."
        )
    return f"{found[1]}:{found[2] or found[1]}"


def _own_folders(environment: dict[str, str]) -> list[Path]:
    """Return the folders in which the environment tells steps to keep data, as absolute paths; Docker mounts only
    existing ones."""
    folders = []
    for variable in (STATE_VARIABLE, CACHE_VARIABLE):
        value = environment.get(variable)
        if value and not is_s3(value):
            folders.append(Path(value).absolute())
            environment[variable] = str(folders[-1])
    return folders


def _database(environment: dict[str, str]) -> Path | None:
    """Return the record's SQLite file, if it is one, and make its address absolute."""
    database = file_of(environment["MLFLOW_TRACKING_URI"])
    if database is None:
        return None
    environment["MLFLOW_TRACKING_URI"] = address(database)
    return database.absolute()


def _let_write(user: str, folders: Iterable[Path], database: Path | None, *, workspace: Path) -> None:
    """Create the folders, which Docker would create as root, and give those of root to the containers' user.

    Raises:
        InputError: a folder outside of the workspace belongs to another user; its ownership is not changed.
    """
    uid, gid = map(int, user.split(":"))
    places = list(folders)
    for folder in places:
        folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return
    given = [path for folder in places for path in (folder, *folder.rglob("*"))]
    if database:
        places.append(database.parent)
        given += [database.parent, *database.parent.glob(f"{database.name}*")]
    for place in places:
        if not place.is_relative_to(workspace) and place.stat().st_uid != uid:
            raise InputError(
                f"Steps run as user {uid} and cannot write into {place}, which is outside of the workspace; give it to "
                f"that user: chown -R {user} {place}"
            )
    for path in given:
        if path.lstat().st_uid != uid:
            os.lchown(path, uid, gid)


def _servers(addresses: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the addresses that steps connect to; a bucket's is the endpoint in the environment, else AWS."""
    endpoint = (
        environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
    )
    remote = (uri for uri in addresses if not uri.startswith("torchvision://"))
    return [endpoint if is_s3(uri) else uri for uri in remote]


def _gpus(info: Mapping[str, Any], visible: str | None) -> list[Any]:
    """Return the device requests for a container's GPUs: all that Docker can pass on, or those in
    CUDA_VISIBLE_DEVICES."""
    from docker.types import DeviceRequest

    if "nvidia" not in (info.get("Runtimes") or {}):
        return []
    if visible is None:
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    # CUDA ignores entries after the first invalid one, for example -1.
    named = [device.strip() for device in visible.split(",")]
    chosen = named[: next((place for place, device in enumerate(named) if not device or device[0] == "-"), len(named))]
    return [DeviceRequest(device_ids=chosen, capabilities=[["gpu"]])] if chosen else []


@dataclass
class Containers:
    """Runs the steps of one pipeline run as containers; `stop` ends them.

    Args:
        root: the folder of the pipeline's artifacts, which each container sees at the same path.
        options: of `docker run`, for each step.
    """

    root: Path
    options: Mapping[str, Any]
    _running: list[Any] = field(default_factory=list)
    _stopped: bool = False

    def run(self, step: Step, read: Callable[[str], None]) -> int:
        """Run a step, call `read` with each line that it writes, and return its exit status."""
        self._give(step.folder)
        given = json.dumps(step.given)
        line = [*step.container.get("command", ()), *step.container.get("args", ())]
        threads = {"OMP_NUM_THREADS": str(step.threads)}
        # Docker's own list of variables would replace the step's.
        environment = {**threads, **step.environment, **self.options.get("environment", {})}
        command = [word.replace("{{$}}", given) for word in line]
        return self.execute(step.container["image"], command, read, environment=environment)

    def _give(self, folder: Path) -> None:
        """Give the step's folder, and those above it of its run, to the containers' user where root made them."""
        if os.getuid() != 0:
            return
        uid, gid = map(int, self.options["user"].split(":"))
        while folder != self.root:
            os.lchown(folder, uid, gid)
            folder = folder.parent

    def execute(self, image: str, command: list[str], read: Callable[[str], None], **options: Any) -> int:
        """Run a command in a container, which is removed afterwards; `options` replace the common ones.

        Docker's own way may report a step as done if its container is gone before its status is read (measured: one in
        five failing steps), and leaves containers running after Ctrl-C.
        """
        import docker

        try:
            with contextlib.closing(docker.from_env()) as client:
                mode = "rw,z" if "name=selinux" in client.info().get("SecurityOptions", []) else "rw"
                volumes = {str(self.root): {"bind": str(self.root), "mode": mode}}
                container = client.containers.create(image, command, volumes=volumes, **{**self.options, **options})
                self._running.append(container)
                try:
                    return self._status(container, read)
                finally:
                    self._running.remove(container)
                    _remove(container)
        except docker.errors.DockerException as error:
            if not self._stopped:
                read(f"HeadstartError: Docker refused to run the step: {error}")
            return _KILLED

    def _status(self, container: Any, read: Callable[[str], None]) -> int:
        if self._stopped:
            return _KILLED
        container.start()
        # A chunk may end within a character.
        for line in lines_of(codecs.iterdecode(container.logs(stream=True, follow=True), "utf-8", "replace")):
            read(line)
        status = int(container.wait()["StatusCode"])
        if status == _KILLED and not self._stopped:
            read("MemoryError: the step was killed, most likely because memory ran out.")
        return status

    def stop(self) -> None:
        """Remove running containers and start no other."""
        self._stopped = True
        for container in list(self._running):
            _remove(container)


def _remove(container: Any) -> None:
    import docker

    # 404 and 409: removed, or being removed.
    with contextlib.suppress(docker.errors.APIError):
        container.remove(force=True)


def _local_path(uri: str) -> Path | None:
    """Return the path of a file:// URI or a plain absolute path; None for any other location."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))
