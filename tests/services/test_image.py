"""The container image that every pipeline step runs in, tried with Docker itself.

HEADSTART_TEST_IMAGE names the image under test; `make test-services` sets it.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from headstart.version import __version__

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
VALIDATE = """
import sys
from pathlib import Path
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text()) and 1)
"""
READ_ONLY_AND_OFFLINE = ["--read-only", "--tmpfs", "/tmp", "--network", "none"]  # noqa: S108 (the container's)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout.strip()


@pytest.fixture(scope="module")
def configuration(image: str) -> dict[str, object]:
    return json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))


def shell(image: str, script: str, *options: str) -> str:
    """Runs as a pipeline step does: Kubeflow starts `sh -c` in the image."""
    return docker("run", "--rm", *options, image, "sh", "-c", script)


def test_image_runs_as_a_fixed_user_that_is_not_root(image: str, configuration: dict[str, object]) -> None:
    assert shell(image, "id -u; id -g") == "10001\n10001"
    assert configuration["User"] == "10001:10001", "Kubernetes verifies runAsNonRoot on a numeric user only"


def test_help_works_offline_on_a_read_only_file_system(image: str) -> None:
    help_text = docker("run", "--rm", *READ_ONLY_AND_OFFLINE, image, "headstart", "--help")
    assert "usage" in help_text.lower()
    assert docker("run", "--rm", *READ_ONLY_AND_OFFLINE, image) == help_text, "the image's default command"


def test_libraries_of_a_step_load_offline_on_a_read_only_file_system(image: str) -> None:
    script = (
        "python3 -c 'import headstart, headstart_components, kfp.dsl, mlflow, sklearn, torch, torchvision; print(1)'"
    )
    assert shell(image, script, *READ_ONLY_AND_OFFLINE) == "1"


@pytest.mark.parametrize("shell_command", ["sh -c", "bash -c", "bash -lc"])
def test_every_shell_finds_the_programs_of_the_environment(image: str, shell_command: str) -> None:
    programs = ["python3", "python", "torchrun", "headstart"]
    found = shell(image, f"{shell_command} 'for program in {' '.join(programs)}; do command -v $program; done'")
    assert found.split() == [f"/opt/headstart/bin/{program}" for program in programs]


def test_what_is_installed_is_what_is_locked(image: str) -> None:
    listing = (
        "from importlib.metadata import distributions; print(*(f'{d.name}=={d.version}' for d in distributions()))"
    )
    installed = {
        canonicalize_name(name): version
        for name, version in (each.split("==") for each in shell(image, f'python3 -c "{listing}"').split())
    }
    assert installed.pop("headstart") == __version__
    files = ("constraints.txt", "constraints-source.txt", "constraints-cpu.txt")
    locked = [re.findall(r"^([\w-]+)==(\S+)", (ROOT / "infra" / file).read_text(), re.MULTILINE) for file in files]
    assert installed == {name: version for pins in locked for name, version in pins}


def test_the_image_is_healthy_offline_on_a_read_only_file_system(image: str) -> None:
    said = shell(image, "headstart check", *READ_ONLY_AND_OFFLINE, "--cap-drop", "ALL", "--shm-size", "256m")
    assert re.search(rf"^headstart +{re.escape(__version__)} on Python \S+, user 10001$", said, re.MULTILINE)
    assert re.search("^device +CPU, .* torch is the build for CPUs$", said, re.MULTILINE)
    assert re.search("^shared +/dev/shm: 256 MB$", said, re.MULTILINE)


def test_any_other_user_can_run_it(image: str) -> None:
    options = [*READ_ONLY_AND_OFFLINE, "--user", "123456:0"]
    assert shell(image, 'touch "$HOME/cache" && headstart --help >/dev/null && id -u', *options) == "123456"


def test_code_is_byte_compiled_and_cannot_be_changed_by_the_step(image: str) -> None:
    script = """
        cd "$(python3 -c 'import headstart, os; print(os.path.dirname(headstart.__file__))')"
        ls __pycache__/errors.*.pyc ../torch/__pycache__/__init__.*.pyc
        find . ../torch ! -user root
        touch errors.py 2>/dev/null && echo writable
        true
    """
    found = shell(image, script).splitlines()
    assert len(found) == 2
    assert all(line.endswith(".pyc") for line in found)
    # Nothing is compiled again, whatever the copy made of the files' times.
    loaded = shell(
        image, "python3 -v -c 'import headstart.errors, torch' 2>&1 | grep -E 'code object from .*/opt/.*[.]py'; true"
    )
    assert [line for line in loaded.splitlines() if ".pyc" not in line] == []


def test_no_compiler_and_no_installer_stays_in_the_image(image: str) -> None:
    assert shell(image, "for tool in gcc cc g++ clang make ld pip pip3; do command -v $tool; done; true") == ""
    for module in ("pip", "ensurepip"):
        for python in ("python3", "/usr/local/bin/python3"):
            assert shell(image, f"{python} -m {module} --version 2>&1; true").endswith(f"No module named {module}")


def test_no_trace_of_the_build_stays_in_the_image(image: str) -> None:
    """No cache of pip, no certificate authority, no folder of wheels, no source tree."""
    script = """
        find / -xdev \\( -name '*.whl' -o -path '*/.cache/pip' \\) ! -path '*/ensurepip/_bundled/*'
        find /run/secrets /run/wheels /run/build /run/source /usr/local/share/ca-certificates /etc/pip.conf \\
             /tmp /root /work -mindepth 1 ! -path /root/.bashrc ! -path /root/.profile
        env | grep ^PIP_
        true
    """
    assert shell(image, f"({script}) 2>/dev/null", "--user", "0") == ""


def test_torch_is_the_build_for_cpus(image: str) -> None:
    assert shell(image, "python3 -c 'import torch; print(torch.version.cuda)'") == "None"


def test_no_telemetry_leaves_a_step(image: str) -> None:
    assert shell(image, "echo $MLFLOW_DISABLE_TELEMETRY") == "true"


def test_labels_say_what_was_built(configuration: dict[str, object]) -> None:
    labels = configuration["Labels"]
    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.title"] == "headstart"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"]
    assert labels["headstart.variant"] == "cpu"


def test_a_bill_of_materials_names_what_is_in_the_image(image: str, tmp_path: Path) -> None:
    # The writer's environment is not the one of the tests.
    python, file = ROOT / "build" / "sbom" / "bin" / "python", tmp_path / "build" / "sbom.json"
    subprocess.run([python, ROOT / "infra" / "image" / "sbom.py", image, file], check=True)
    subprocess.run([python, "-c", VALIDATE, file], check=True)
    document = json.loads(file.read_text())
    assert document["metadata"]["component"]["version"] == __version__
    found = {component["purl"]: component for component in document["components"] if "purl" in component}
    torch = shell(image, "python3 -c 'import torch; print(torch.__version__)'").replace("+", "%2B")
    assert f"pkg:pypi/torch@{torch}" in found
    assert found[f"pkg:pypi/torch@{torch}"]["licenses"]
    libc = shell(image, "dpkg-query --show --showformat '${Version}' libc6")
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in found)
    assert libc in {component["version"] for component in document["components"] if component["name"] == "libc6"}
    assert "/tmp" not in file.read_text()  # noqa: S108 - no path of the build
