"""How many pictures a second `headstart serve` and `mlflow models serve` answer, and how soon.

    python -m benchmarks.serving [--rounds 5] [--requests 500] [--clients 1 8] [--size 32]

Both serve the same convnet with random weights. In every round each server in turn is sent single pictures, PNG in
JSON, over kept connections; the table has medians over the rounds. Processor time is the server's own, and says more
than the rate does where the machine is busy.
"""

import argparse
import base64
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.tracking.logged_model import save_pyfunc

_CLASSES, _PICTURES, _WARM = 10, 50, 50


def main() -> None:
    """Starts both servers, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken (default 5)")
    parser.add_argument("--requests", type=int, default=500, help="of each client in a round (default 500)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8], help="at the same time (default 1 and 8)")
    parser.add_argument("--size", type=int, default=32, help="side of the pictures in pixels (default 32)")
    options = parser.parse_args()
    bodies = _bodies(options.size)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headstart-")))
        servers = {name: stack.enter_context(_running(name, *each)) for name, each in _commands(folder, options.size)}
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
        print(f"{'server':<20} {'clients':>7} {'a second':>9} {'p50 ms':>7} {'p99 ms':>7} {'cpu ms':>7} {'MB':>5}")
        for clients in options.clients:
            rounds = [
                {name: _round(server, bodies, clients, options.requests) for name, server in servers.items()}
                for _ in range(options.rounds)
            ]
            for name, server in servers.items():
                rate, p50, p99, cpu = (
                    statistics.median(values) for values in zip(*(each[name] for each in rounds), strict=True)
                )
                memory = server.process.memory_info().rss / 1e6
                print(f"{name:<20} {clients:>7} {rate:>9.0f} {p50:>7.2f} {p99:>7.2f} {cpu:>7.2f} {memory:>5.0f}")


@dataclass(frozen=True)
class _Server:
    port: int
    process: psutil.Process


def _bodies(size: int) -> list[bytes]:
    """Requests for one picture each."""
    generator = np.random.default_rng(0)
    bodies = []
    for _ in range(_PICTURES):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file, format="PNG")
        bodies.append(json.dumps({"inputs": [base64.b64encode(file.getvalue()).decode()]}).encode())
    return bodies


def _commands(folder: Path, size: int) -> Iterator[tuple[str, tuple[list[str], int]]]:
    """The command of each server, and its port."""
    preprocessing = Preprocessing(size=size, channels=3, mean=(0.5,) * 3, std=(0.3,) * 3)
    network = convnet(classes=_CLASSES, channels=3).eval()
    classes = tuple(f"class {number}" for number in range(_CLASSES))
    bundle = ModelBundle(network, "convnet", "image", preprocessing, classes)
    bundle.save(folder / "bundle")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        save_pyfunc(folder / "model", bundle, {"bundle": folder / "bundle"}, with_example=False)
    ours, theirs = _free_port(), _free_port()
    command = [sys.executable, "-m", "headstart_pipelines.cli", "serve", str(folder / "bundle"), "--port", str(ours)]
    yield "headstart serve", (command, ours)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "--env-manager", "local"]
    yield "mlflow models serve", ([*command, "--port", str(theirs)], theirs)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def _running(name: str, command: list[str], port: int) -> Iterator[_Server]:
    """A server, once it answers."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    began = time.monotonic()
    started = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not _answers(port):
            if started.poll() is not None:
                sys.exit(f"{name} ended with status {started.returncode}; run it by hand: {' '.join(command)}")
            time.sleep(0.1)
        print(f"{name} answers after {time.monotonic() - began:.0f} s")
        whole = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
        yield _Server(port, max(whole, key=lambda each: each.memory_info().rss))
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _round(server: _Server, bodies: list[bytes], clients: int, requests: int) -> tuple[float, float, float, float]:
    """Answers a second, the median and the 99th percentile of their milliseconds, and the server's processor
    milliseconds for each."""
    seconds: list[float] = []
    gate = threading.Barrier(clients + 1)

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(_WARM + requests):
            if number == _WARM:
                gate.wait()
            began = time.perf_counter()
            connection.request(
                "POST", "/invocations", bodies[number % len(bodies)], {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {content[:200]!r}")
            if number >= _WARM:
                seconds.append(time.perf_counter() - began)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    gate.wait()
    began, before = time.perf_counter(), sum(server.process.cpu_times()[:2])
    for thread in threads:
        thread.join()
    took, used = time.perf_counter() - began, sum(server.process.cpu_times()[:2]) - before
    count = len(seconds)
    ordered = sorted(seconds)
    return count / took, 1e3 * ordered[count // 2], 1e3 * ordered[int(0.99 * count)], 1e3 * used / count


if __name__ == "__main__":
    main()
