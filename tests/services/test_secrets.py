"""What a person's environment holds for nobody's eyes never gets into the record nor into a file."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.services.conftest import FinishedRun
from tests.services.contents import files, opened
from tests.services.stack import Stack

pytestmark = pytest.mark.services


def spellings(secret: str) -> set[bytes]:
    """The secret as it is, URL-encoded, and in base64 at each of the three places of a group where it may begin."""
    found = {secret.encode(), quote(secret, safe="").encode()}
    for begin in range(3):
        code = base64.b64encode(b"\0" * begin + secret.encode())
        # Without the groups of four that depend on what stands before and after it.
        code = code[4 if begin else 0 : -4]
        found |= {code, code.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def leaks(secret: str, places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Where the secret can be read, in a name or in what is there."""
    return [
        place
        for place, content in places
        if any(spelling in place.encode() or spelling in content for spelling in spellings(secret))
    ]


def _places(stack: Stack, run: FinishedRun) -> Iterator[tuple[str, bytes]]:
    yield "standard output", run.out.encode()
    yield "standard error", run.err.encode()
    yield "the database", stack.postgres.dump("record")
    yield "the server's log", stack.log.encode()
    for name, content in stack.objects().items():
        yield from opened(f"s3://{stack.bucket}/{name}", content)
    for name, content in files(run.place):
        yield from opened(name, content)


@pytest.fixture(scope="module")
def places(stack: Stack, finished_run: FinishedRun) -> list[tuple[str, bytes]]:
    """All that the run said and left: its output, the database, the objects, its recipe, artifacts, cache and logs."""
    found = list(_places(stack, finished_run))
    held = " ".join(place for place, _ in found)
    assert all(part in held for part in ("/cache/", "/logs/", "/reports/", "/pipeline/", "s3://", "MLmodel")), held
    return found


@pytest.mark.parametrize(
    "secret",
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "DATABASE_PASSWORD", "MLFLOW_TRACKING_PASSWORD"],
)
def test_a_secret_of_the_environment_or_the_servers_address_gets_nowhere(
    finished_run: FinishedRun, places: list[tuple[str, bytes]], secret: str
) -> None:
    assert leaks(finished_run.secrets[secret], places) == []


def test_the_servers_own_secrets_stay_with_the_servers(stack: Stack, places: list[tuple[str, bytes]]) -> None:
    key = stack.s3_environment["AWS_SECRET_ACCESS_KEY"]
    assert [leaks(secret, places) for secret in (key, stack.postgres.password)] == [[], []]


@pytest.mark.parametrize("pipeline", ["pretrain", "finetune", "transfer"])
def test_a_compiled_pipeline_holds_none(finished_run: FinishedRun, tmp_path: Path, pipeline: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", "compile", pipeline, "-o", "compiled.yaml"],
        cwd=tmp_path, env=os.environ | finished_run.environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [("output", done.stdout + done.stderr), *files(tmp_path)]
    assert [name for name, secret in finished_run.secrets.items() if leaks(secret, found)] == []


def test_an_error_about_the_server_does_not_show_the_password(
    stack: Stack, finished_run: FinishedRun, tmp_path: Path
) -> None:
    elsewhere = {"MLFLOW_TRACKING_URI": "http://admin:a-wrong/password@" + stack.uri.removeprefix("http://")}
    done = subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", "run", finished_run.recipe,
         "--workspace", tmp_path / "workspace"],
        cwd=finished_run.place, env=os.environ | finished_run.environment | elsewhere, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert b"127.0.0.1" in done.stderr
    assert leaks("a-wrong/password", [("output", done.stdout + done.stderr), *files(tmp_path)]) == []


@pytest.mark.parametrize("begin", range(3))
def test_the_search_finds_a_secret_in_every_spelling(begin: int) -> None:
    secret = "canary/of-some-length+and=signs"
    around = b"u:"[:begin] + secret.encode() + b"@host"
    texts = [
        around,
        quote(around).replace("/", "%2F").encode(),
        base64.b64encode(around),
        base64.urlsafe_b64encode(around),
    ]
    assert leaks(secret, enumerate_places(texts)) == [str(number) for number in range(len(texts))]
    assert leaks(secret, [("a place", b"canary/of-another")]) == []


def enumerate_places(texts: list[bytes]) -> list[tuple[str, bytes]]:
    return [(str(number), text) for number, text in enumerate(texts)]
