"""Print the exact versions that the image is built with: `make constraints` writes them to infra/constraints.txt.

pip resolves the dependencies of the project and of its extra `trainjob` anew for the running Python, without looking at
what is installed. A local version such as +cpu is left out, so that the same file serves the CPU and the CUDA build of
torch.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", f"{ROOT}[trainjob]"]


def main() -> None:
    report = subprocess.run([sys.executable, "-m", "pip", *COMMAND], check=True, stdout=subprocess.PIPE).stdout
    packages = [item["metadata"] for item in json.loads(report)["install"]]
    pins = {package["name"].lower().replace("_", "-"): package["version"].split("+")[0] for package in packages}
    del pins["headstart"]
    print(f"# Resolved from pyproject.toml on Python {platform.python_version()}, {platform.system()}.")
    print("# `make constraints` writes this file; the Dockerfile installs with it.")
    for name, version in sorted(pins.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
