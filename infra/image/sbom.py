"""Write what an image holds as a CycloneDX document: `make sbom` writes build/sbom.json for IMAGE.

    python infra/image/sbom.py IMAGE FILE

Python's packages are told by cyclonedx-bom from the image's own metadata, with licences and what each depends on;
Debian's follow from its package database. The document is valid CycloneDX 1.6, or there is none.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

_VERSION = SchemaVersion.V1_6
_PYTHON = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main() -> None:
    image, output = sys.argv[1], Path(sys.argv[2])
    (described,) = json.loads(docker("image", "inspect", image))
    document = python_packages(image)
    document["metadata"]["component"] = {
        "type": "container",
        "bom-ref": described["Id"],
        "name": described["Config"]["Labels"]["org.opencontainers.image.title"],
        "version": described["Config"]["Labels"]["org.opencontainers.image.version"],
        "properties": [
            {"name": "headstart:image", "value": described["Id"]},
            *({"name": key, "value": value} for key, value in sorted(described["Config"]["Labels"].items())),
        ],
    }
    document["components"] += debian_packages(image)
    text = json.dumps(document, indent=2) + "\n"
    error = JsonStrictValidator(_VERSION).validate_str(text)
    if error:
        sys.exit(f"the document about {image} is not valid CycloneDX: {error}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    print(f"{output}: {len(document['components'])} components of {image}")


def python_packages(image: str) -> dict[str, Any]:
    """cyclonedx-bom's document about the packages of the image's Python."""
    command = f'cd "$(python3 -c "{_PYTHON}")" && tar --create *.dist-info'
    archive = run_in(image, command)
    with tempfile.TemporaryDirectory() as folder:
        packages, python = Path(folder, "packages"), Path(folder, "python")
        with tarfile.open(fileobj=BytesIO(archive)) as members:
            members.extractall(packages, filter="data")
        # cyclonedx-bom asks an interpreter for its path. The image's own needs the rest of the image to run.
        python.write_text(f"#!/bin/sh\necho '{json.dumps([str(packages)])}'\n")
        python.chmod(0o700)
        done = subprocess.run(
            [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--no-validate",
             "--sv", _VERSION.to_version(), python],
            check=True, stdout=subprocess.PIPE,
        )  # fmt: skip
    return json.loads(done.stdout)


def debian_packages(image: str) -> list[dict[str, Any]]:
    listed = run_in(image, "dpkg-query --show --showformat '${Package}\\t${Version}\\t${Architecture}\\n'").decode()
    rows = sorted(line.split("\t") for line in listed.splitlines())
    return [
        {
            "type": "library",
            "bom-ref": f"deb:{name}:{architecture}",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}",
        }
        for name, version, architecture in rows
    ]


def run_in(image: str, command: str) -> bytes:
    return docker("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", command)


def docker(*arguments: str) -> bytes:
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE).stdout  # noqa: S607


if __name__ == "__main__":
    main()
