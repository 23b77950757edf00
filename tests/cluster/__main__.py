"""Goes all steps of infra/README.md for one machine on the cluster of KUBECONFIG, and back: `make test-cluster`.

On kind it builds the images and brings them to the nodes. Elsewhere they lie in a registry that the nodes pull from:

    make test-cluster IMAGE=registry.example/headstart@sha256:… MLFLOW_IMAGE=registry.example/headstart-mlflow:0.1.0

It ends with 0 if every command did what the README promises, or if there is no cluster; with 1 if one did not.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.journey import Journey, NotKept, NotPossible, copy_project
from tests.cluster.readme import steps
from tests.cluster.shell import Shell


def main() -> int:
    """Goes; the exit status."""
    parser = argparse.ArgumentParser(prog="make test-cluster")
    parser.add_argument("--image")
    parser.add_argument("--mlflow-image")
    options = parser.parse_args()
    if bool(options.image) != bool(options.mlflow_image):
        print("Name both images, IMAGE and MLFLOW_IMAGE, or none: then both are built and brought to kind's nodes.")
        return 2
    if reason := _no_cluster():
        print(f"skipped: there is no cluster to try: {reason}")
        return 0
    images = {"HEADSTART_IMAGE": options.image, "MLFLOW_IMAGE": options.mlflow_image} if options.image else {}
    with tempfile.TemporaryDirectory(prefix="headstart-cluster-") as name:
        folder = Path(name)
        copy_project(folder, images)

        def opened() -> Shell:
            return Shell(folder, _environment(), lambda line: print(f"    {line}", end="", flush=True))

        try:
            Journey(opened, options.image, lambda text: print(text, flush=True)).travel(steps())
        except (NotKept, NotPossible) as error:
            print(error, file=sys.stderr)
            return 1
    print("every command did what infra/README.md promises")
    return 0


def _no_cluster() -> str | None:
    """Why no cluster answers; None if one does."""
    try:
        done = subprocess.run(
            ["kubectl", "--request-timeout=20s", "get", "namespaces"],  # noqa: S607 (the user's own)
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return "kubectl is not installed"
    said = done.stderr.strip().splitlines() or [f"kubectl ended with {done.returncode}"]
    return said[-1] if done.returncode else None


def _environment() -> dict[str, str]:
    """The user's, without settings of headstart or S3 that the README does not make."""
    own = ("HEADSTART_", "MLFLOW_", "AWS_", "KFP_", "KF_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    context = subprocess.run(
        ["kubectl", "config", "current-context"],  # noqa: S607 (the user's own)
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    # kind loads images into the cluster of that name.
    kind = {"KIND_CLUSTER_NAME": context.removeprefix("kind-")} if context.startswith("kind-") else {}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **kind, "PATH": path}


if __name__ == "__main__":
    sys.exit(main())
