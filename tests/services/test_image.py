"""The container image that every pipeline step runs in, tried with Docker itself.

HEADSTART_TEST_IMAGE names the image under test; `make test-services` sets it.
"""

import json
import subprocess

import pytest

from headstart.version import __version__

pytestmark = pytest.mark.services

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
    script = "python3 -c 'import headstart, components, kfp.dsl, mlflow, sklearn, torch, torchvision; print(1)'"
    assert shell(image, script, *READ_ONLY_AND_OFFLINE) == "1"


def test_any_other_user_can_run_it(image: str) -> None:
    options = [*READ_ONLY_AND_OFFLINE, "--user", "123456:0"]
    assert shell(image, 'touch "$HOME/cache" && headstart --help >/dev/null && id -u', *options) == "123456"


def test_code_is_byte_compiled_and_cannot_be_changed_by_the_step(image: str) -> None:
    script = """
        cd "$(python3 -c 'import headstart, os; print(os.path.dirname(headstart.__file__))')"
        ls __pycache__/errors.*.pyc
        find . ! -user root
        touch errors.py 2>/dev/null && echo writable
        true
    """
    found = shell(image, script).splitlines()
    assert len(found) == 1
    assert found[0].endswith(".pyc")


def test_no_compiler_stays_in_the_image(image: str) -> None:
    assert shell(image, "for tool in gcc cc g++ clang make ld; do command -v $tool; done; true") == ""


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
