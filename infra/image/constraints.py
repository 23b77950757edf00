"""Write the files that the images are installed from: `make constraints` resolves every version anew and locks it to
the digests of its wheels.

    infra/constraints.txt         what both builds of the image share: everything but torch
    infra/constraints-source.txt  of that, what is published as source only, to be built by the setuptools in the former
    infra/constraints-cpu.txt     torch for CPUs, from PyTorch's own index
    infra/constraints-cuda.txt    torch for CUDA with NVIDIA's libraries, from PyPI
    infra/constraints-mlflow.txt  the MLflow server

Each is complete and is installed as it stands: `pip install --require-hashes --no-deps -r FILE`. (With `-c`, pip cannot
use digests: pypa/pip#9243.) The digests are those of all wheels that fit the running Python's version on Linux with
glibc, x86_64 and aarch64.

pip resolves for the machine that this runs on, without looking at what is installed, and must find torch's build for
CPUs: where no folder of wheels holds it, in an index that PIP_EXTRA_INDEX_URL names.
"""

import hashlib
import json
import platform
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urljoin

from packaging.markers import default_environment
from packaging.metadata import Metadata
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
CPU_INDEX = "https://download.pytorch.org/whl/cpu/"
TORCH = ("torch", "torchvision")
# Debian 12's; that of python:3.11-slim is newer.
GLIBC = 36
# A distribution's file name, its address and its SHA-256.
File = tuple[str, str, str]


def main() -> None:
    pins = resolve(f"{ROOT}[image]")
    del pins["headstart"]
    torch = {name: pins.pop(name) for name in TORCH}
    foreign = [f"{name}=={version}" for name, version in torch.items() if not version.endswith("+cpu")]
    if foreign:
        sys.exit(f"pip found {', '.join(foreign)} instead of the build for CPUs; set PIP_EXTRA_INDEX_URL={CPU_INDEX}")
    released = {name: version.removesuffix("+cpu") for name, version in torch.items()}
    server = resolve("-r", str(INFRA / "mlflow" / "requirements.txt"), constraints=pins)
    source = {name: version for name, version in pins.items() if not digests(index_files(name), version)}
    files = {
        "constraints.txt": lock({name: version for name, version in pins.items() if name not in source}),
        "constraints-source.txt": "".join(locked(name, version, source_digests(name, version))
                                          for name, version in source.items()),
        "constraints-cpu.txt": "".join(locked(name, version, cpu_digests(name, version))
                                       for name, version in torch.items()),
        "constraints-cuda.txt": lock(released | resolve(*cuda_libraries(released["torch"], pins), constraints=pins)),
        "constraints-mlflow.txt": lock(server),
    }  # fmt: skip
    head = (
        f"# Resolved on Python {platform.python_version()}, {platform.system()} {platform.machine()}, by "
        "`make constraints`; what each file is for: infra/image/constraints.py.\n"
    )
    for name, text in files.items():
        (INFRA / name).write_text(head + text)


def resolve(*arguments: str, constraints: Mapping[str, str] | None = None) -> dict[str, str]:
    """The version of each package that pip would install, by its normalised name and in the order of names."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    if constraints:
        arguments = (*arguments, "-c", "/dev/stdin")
    pins = "".join(f"{name}=={version}\n" for name, version in (constraints or {}).items())
    done = subprocess.run([*command, *arguments], input=pins, text=True, check=True, stdout=subprocess.PIPE)
    packages = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return dict(sorted((canonicalize_name(package["name"]), package["version"]) for package in packages))


def lock(pins: Mapping[str, str]) -> str:
    """The lines of a requirements file, with the digests that the package index names."""
    return "".join(locked(name, version, digests(index_files(name), version)) for name, version in pins.items())


def locked(name: str, version: str, sums: Iterable[str]) -> str:
    found = sorted(set(sums))
    if not found:
        sys.exit(f"{name} {version} has no file that Python {platform.python_version()} on Linux can install")
    return " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{digest}" for digest in found)]) + "\n"


def digests(files: Iterable[File], version: str) -> list[str]:
    """The digests of those wheels of a version that an image can install."""
    return [digest for name, _, digest in files if fits(name, version)]


def fits(file_name: str, version: str) -> bool:
    try:
        _, found, _, tags = parse_wheel_filename(file_name)
    except (InvalidWheelFilename, InvalidVersion):
        return False
    return found == Version(version) and not tags.isdisjoint(supported())


@cache
def supported() -> frozenset[Tag]:
    python = sys.version_info[:2]
    libraries = [*(f"manylinux_2_{minor}" for minor in range(5, GLIBC + 1)), "manylinux2014", "manylinux2010",
                 "manylinux1", "linux"]  # fmt: skip
    platforms = [f"{library}_{machine}" for machine in ("x86_64", "aarch64") for library in libraries]
    interpreter = f"cp{python[0]}{python[1]}"
    return frozenset([
        *cpython_tags(python, platforms=platforms),
        *compatible_tags(python, interpreter, platforms),
    ])  # fmt: skip


def source_digests(name: str, version: str) -> list[str]:
    return [digest for file, _, digest in index_files(name) if file.endswith(".tar.gz") and of(file, version)]


def of(source: str, version: str) -> bool:
    """Whether a file holds that version's source."""
    try:
        return parse_sdist_filename(source)[1] == Version(version)
    except (InvalidSdistFilename, InvalidVersion):
        return False


@cache
def index_files(name: str) -> list[File]:
    """All files of a package in pip's index, by the JSON form of the simple API (PEP 691)."""
    index = pip_settings().get("index-url", "https://pypi.org/simple").rstrip("/") + "/"
    page = fetch(f"{index}{name}/", "application/vnd.pypi.simple.v1+json")
    return [
        (file["filename"], urljoin(index, file["url"]), file["hashes"]["sha256"])
        for file in json.loads(page)["files"]
        if not file.get("yanked")
    ]


def cpu_digests(name: str, version: str) -> list[str]:
    """Those of PyTorch's index and those of the wheels in a local folder, which may be builds of their own.

    Where the index cannot be reached, those that were locked for this version before stay.
    """
    try:
        page = fetch(f"{CPU_INDEX}{name}/", "text/html").decode()
        wheels = [(unquote(url).rsplit("/", 1)[-1], url, digest)
                  for url, digest in re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"', page)]  # fmt: skip
        published = digests(wheels, version)
    except urllib.error.URLError as error:
        print(f"{CPU_INDEX} does not answer ({error.reason}): {name}'s digests stay", file=sys.stderr)
        file = INFRA / "constraints-cpu.txt"
        published = entries(file.read_text()).get((name, version), []) if file.exists() else []
    local = [
        hashlib.sha256(wheel.read_bytes()).hexdigest()
        for folder in pip_settings().get("find-links", "").split()
        for wheel in Path(folder).glob(f"{name}-*.whl")
        if fits(wheel.name, version)
    ]
    return [*published, *local]


def cuda_libraries(version: str, common: Mapping[str, str]) -> list[str]:
    """What PyPI's torch for Linux asks for beyond the packages that both builds share."""
    _, address, _ = next(wheel for wheel in index_files("torch")
                         if fits(wheel[0], version) and "x86_64" in wheel[0])  # fmt: skip
    # PEP 658: the metadata lie beside the wheel.
    requirements = Metadata.from_email(fetch(f"{address}.metadata", "*/*"), validate=False).requires_dist or []
    linux = {**default_environment(), "platform_system": "Linux", "sys_platform": "linux", "extra": ""}
    return [
        f"{requirement.name}{'[' + ','.join(requirement.extras) + ']' if requirement.extras else ''}"
        f"{requirement.specifier}"
        for requirement in requirements
        if canonicalize_name(requirement.name) not in common
        and (requirement.marker is None or requirement.marker.evaluate(linux))
    ]


def entries(text: str) -> dict[tuple[str, str], list[str]]:
    """The digests in a requirements file, by name and version."""
    return {
        (name, version): re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)
        for name, version, rest in re.findall(r"^([\w.-]+)==(\S+)((?:\s*\\\n[^\\\n]*)*)", text, re.MULTILINE)
    }


@cache
def pip_settings() -> dict[str, str]:
    """What pip's configuration says, the environment's last."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    found = re.findall(r"^(global|install|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    order = ["global", "install", ":env:"]
    return {key: value for _, key, value in sorted(found, key=lambda each: order.index(each[0]))}


def fetch(address: str, media: str) -> bytes:
    if not address.startswith("https://"):
        sys.exit(f"{address} is no https:// address")
    context = ssl.create_default_context(cafile=pip_settings().get("cert"))
    request = urllib.request.Request(address, headers={"Accept": media})  # noqa: S310 (checked above)
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:  # noqa: S310
        return answer.read()


if __name__ == "__main__":
    main()
