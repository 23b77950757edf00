"""Servers, MLflow's and `headstart serve`, while clients send pictures that are small to send and large to decode."""

import base64
import contextlib
import io
import json
import os
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.tracking.logged_model import save_pyfunc
from tests.services.servers import Process, answers, free_ports

pytestmark = pytest.mark.slow

_SECONDS = 15
_CLIENTS = 8


def png(side: int, depth: int = 8, kind: int = 0, *, whole: bool = True) -> bytes:
    """A black picture of `side` by `side` pixels of a PNG colour type; or one whose last row nobody can read."""
    samples = {0: 1, 2: 3, 6: 4}[kind]
    row = bytes(1 + side * samples * depth // 8)
    packer = zlib.compressobj(1)
    last = row if whole else b"\xff" + row[1:]
    data = b"".join(packer.compress(each) for each in [row] * (side - 1) + [last]) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format_, **options)
    return file.getvalue()


def asking(*files: bytes) -> bytes:
    return json.dumps({"inputs": [base64.b64encode(file).decode() for file in files]}).encode()


def hostile() -> dict[str, bytes]:
    """Requests that nothing but a refusal is the answer to."""
    cut = Image.new("RGB", (3500, 3500))
    return {
        "62 megapixels of 16 bits": asking(png(7900, 16)),
        "62 megapixels of 64 bits": asking(png(7900, 16, 6)),
        "100 megapixels": asking(png(10_000, 1)),
        "many large": asking(*[png(3000, 16)] * 20),
        "many small": asking(*[png(1)] * 20_000),
        "many numbers": b'{"inputs": [' + b"[[[0]]]," * 300_000 + b"0]}",
        # Within the bounds and damaged at their end, so that all of them is decoded before it is known.
        "damaged, 16 bits": asking(png(3500, 16, whole=False)),
        "damaged, 64 bits": asking(png(3500, 16, 6, whole=False)),
        "damaged, webp": asking(encoded(cut, "WEBP", lossless=True, method=0)[:-9]),
        "damaged, jpeg": asking(encoded(cut, "JPEG", progressive=True)[:-2000]),
        "no picture": asking(bytes(1_000_000)),
    }


@pytest.fixture(scope="module", params=["mlflow models serve", "headstart serve"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a server of a model, and its process group."""
    home = tmp_path_factory.mktemp("attacked")
    torch.manual_seed(0)
    preprocessing = Preprocessing(size=32, channels=3, mean=(0.5,) * 3, std=(0.3,) * 3)
    network = convnet(classes=3, channels=3).eval()
    bundle = ModelBundle(network, "convnet", "image", preprocessing, ("cat", "dog", "owl"))
    bundle.save(home / "bundle")
    save_pyfunc(home / "model", bundle, {"bundle": home / "bundle"}, with_example=False)
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", str(home / "model"), "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    if request.param == "headstart serve":
        command = [
            sys.executable, "-m", "headstart_pipelines.cli", "serve", str(home / "bundle"), "--port", str(port),
        ]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    process = Process("serve", command, home, environment=environment)
    try:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"))
        yield f"http://127.0.0.1:{port}/invocations", process._popen.pid
    finally:
        process.stop()


def processes(group: int) -> list[Path]:
    """What the system tells of the memory of each process of a group."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        # It may have ended.
        with contextlib.suppress(OSError):
            if os.getpgid(int(place.name)) == group:
                found.append(place / "statm")
    return found


def memory(of: list[Path]) -> int:
    """The bytes that processes have in memory."""
    return sum(int(each.read_text().split()[1]) for each in of) * os.sysconf("SC_PAGE_SIZE")


def post(url: str, body: bytes) -> tuple[int, float]:
    """The status of the answer, and how many seconds it took."""
    began = time.monotonic()
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=60) as response:  # noqa: S310
            status = response.status
            response.read()
    except urllib.error.HTTPError as error:
        status = error.code
        error.read()
    return status, time.monotonic() - began


def test_hostile_pictures_are_refused_at_once_and_good_ones_answered_meanwhile_within_600_mb(server):
    url, group = server
    of = processes(group)
    good = asking(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)), "JPEG"))
    assert post(url, good)[0] == 200
    attacks = list(hostile().items())
    before, end = memory(of), time.monotonic() + _SECONDS
    refused: list[tuple[str, int, float]] = []
    answered: list[tuple[int, float]] = []
    most = [before]

    def attack(client: int) -> None:
        number = client
        while time.monotonic() < end:
            name, body = attacks[number % len(attacks)]
            refused.append((name, *post(url, body)))
            number += 1

    def watch() -> None:
        while time.monotonic() < end:
            most.append(memory(of))
            time.sleep(0.05)

    threads = [threading.Thread(target=attack, args=(client,)) for client in range(_CLIENTS)]
    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        answered.append(post(url, good))
    for thread in threads:
        thread.join()

    slowest = {name: max(took for other, _, took in refused if other == name) for name, _ in attacks}
    print(
        f"{len(refused)} hostile requests, slowest {slowest}; {len(answered)} good ones, slowest "
        f"{max(took for _, took in answered):.2f} s; memory {before / 1e6:.0f} MB, at most {max(most) / 1e6:.0f} MB, "
        f"then {memory(of) / 1e6:.0f} MB; statuses {sorted({(name, status) for name, status, _ in refused})}"
    )
    assert {status // 100 for _, status, _ in refused} == {4}
    # Every one where the machine does nothing else.
    assert sorted(took for _, _, took in refused)[int(0.95 * len(refused))] <= 2
    assert max(most) - before <= 600e6
    assert [status for status, _ in answered if status != 200] == []
    assert len(answered) >= _SECONDS
