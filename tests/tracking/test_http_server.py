"""What `headstart serve` does beyond MLflow's own server; test_serving.py asks both the same."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle, NotFinite
from headstart.models.ensemble import ensemble, ensemble_name
from headstart.tracking import http_server
from headstart.tracking.micro_batches import BATCH, MicroBatches
from headstart.tracking.request import Busy

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)


def text(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


TEXTS = [text(pixels) for pixels in PIXELS]


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    torch.manual_seed(0)
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    network = convnet(classes=3, channels=1).eval()
    return ModelBundle(network, "convnet", "image", preprocessing, ("cat", "dog", "owl"))


@pytest.fixture(scope="module")
def client(bundle):
    with TestClient(http_server.application(bundle, bundle.predict_probabilities)) as client:
        yield client


def test_it_is_alive_and_says_mlflows_version(client):
    import mlflow

    for path in ("/ping", "/health"):
        assert client.get(path).status_code == 200
    assert client.get("/version").text == mlflow.__version__
    assert client.get("/invocations").status_code == 405


def test_prometheus_reads_requests_by_status_their_seconds_and_the_samples_of_batches(client):
    assert client.post("/invocations", json={"inputs": TEXTS}).status_code == 200
    assert client.post("/invocations", json={"inputs": ["no base64!"]}).status_code == 400
    lines = client.get("/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(figures['headstart_requests_total{status="200"}']) >= 1
    assert float(figures['headstart_requests_total{status="400"}']) >= 1
    assert float(figures["headstart_request_seconds_count"]) >= 2
    assert float(figures["headstart_batch_samples_sum"]) >= 3
    assert float(figures["headstart_waiting_samples"]) == 0


def test_a_charset_changes_nothing(client):
    body = json.dumps({"inputs": TEXTS}).encode()
    answer = client.post("/invocations", content=body, headers={"content-type": "application/json; charset=UTF-8"})
    assert answer.json() == client.post("/invocations", json={"inputs": TEXTS}).json()


def test_a_model_whose_results_are_no_numbers_says_so(bundle):
    def broken(samples):
        raise NotFinite

    for predict in (broken, lambda samples: np.full((len(samples), 3), np.nan)):
        with TestClient(http_server.application(bundle, predict)) as client:
            answer = client.post("/invocations", json={"inputs": TEXTS})
        assert (answer.status_code, "results are no numbers" in answer.json()["message"]) == (500, True)


def test_an_error_of_the_model_is_told_without_its_details(bundle, caplog):
    def broken(samples):
        raise RuntimeError("/secret/place")

    with TestClient(http_server.application(bundle, broken)) as client:
        answer = client.post("/invocations", json={"inputs": TEXTS})
        assert 'status="500"} 1.0' in client.get("/metrics").text
    assert (answer.status_code, "secret" in answer.text, "secret" in caplog.text) == (500, False, True)


def test_requests_of_more_bytes_together_than_there_is_memory_for_are_told_to_ask_again(client, monkeypatch):
    monkeypatch.setattr(http_server, "_MOST_BYTES_OF_ALL", 100)
    answer = client.post("/invocations", json={"inputs": TEXTS})
    assert (answer.status_code, "ask again" in answer.json()["message"]) == (429, True)
    monkeypatch.undo()
    assert client.post("/invocations", json={"inputs": TEXTS}).status_code == 200


def test_a_request_without_a_length_that_never_ends_is_cut_off(client):
    endless = (b" " * 2**20 for _ in range(40))
    answer = client.post("/invocations", content=endless, headers={"content-type": "application/json"})
    assert (answer.status_code, "more than 32 MiB" in answer.json()["message"]) == (413, True)


def test_an_address_that_another_has_is_refused(bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="is not to be had"):
        http_server.serve(bundle, host="127.0.0.1", port=taken.getsockname()[1], ready=print, threads=1)


def test_onnx_runtime_answers_as_the_bundle_does(bundle):
    predict = http_server.predictor(bundle, threads=1)
    for rows in (1, 5):
        samples = list(np.random.default_rng(1).integers(0, 256, (rows, 16, 16, 1), dtype=np.uint8))
        assert predict(samples) == pytest.approx(bundle.predict_probabilities(samples), abs=1e-4)


class Gate:
    """A model of one class that notes its batches and waits at a gate; a sample is its probability."""

    def __init__(self):
        self.open, self.begun, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, samples):
        self.begun.set()
        assert self.open.wait(30)
        self.batches.append(len(samples))
        if any(sample < 0 for sample in samples):
            raise NotFinite
        return np.array(samples, dtype=float)[:, None]


def test_what_waits_goes_through_the_model_together_and_each_gets_its_own():
    gate = Gate()
    batches = MicroBatches(gate)
    first = batches.submit([0.5])
    assert gate.begun.wait(30)
    others = [batches.submit([number, number + 0.5]) for number in range(4)]
    assert batches.waiting == 9
    gate.open.set()
    assert first.result(30).tolist() == [[0.5]]
    assert [each.result(30).tolist() for each in others] == [[[n], [n + 0.5]] for n in range(4)]
    batches.close()
    assert (gate.batches, batches.waiting) == ([1, 8], 0)


def test_a_large_request_goes_in_parts_and_one_that_fails_spoils_no_other():
    gate = Gate()
    batches = MicroBatches(gate)
    gate.open.set()
    assert len(batches.submit([0.0] * (2 * BATCH + 1)).result(30)) == 2 * BATCH + 1
    assert gate.batches == [BATCH, BATCH, 1]
    gate.open.clear()
    gate.begun.clear()
    batches.submit([1.0])
    assert gate.begun.wait(30)
    bad, good, gone = batches.submit([-1.0]), batches.submit([2.0]), batches.submit([3.0])
    assert gone.cancel()
    gate.open.set()
    assert good.result(30).tolist() == [[2.0]]
    with pytest.raises(NotFinite):
        bad.result(30)
    batches.close()


def test_too_many_waiting_samples_are_refused_and_the_end_answers_those_that_wait(monkeypatch):
    gate = Gate()
    batches = MicroBatches(gate)
    monkeypatch.setattr("headstart.tracking.micro_batches._MOST_WAITING", 5)
    waiting = [batches.submit([0.0]) for _ in range(5)]
    with pytest.raises(Busy):
        batches.submit([0.0])
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(batches.close)
        gate.open.set()
        closing.result(30)
    assert all(each.done() for each in waiting)
    with pytest.raises(Busy):
        batches.submit([0.0])


@pytest.mark.slow
def test_the_command_serves_a_bundle_and_ends_well_when_it_is_told_to(bundle, tmp_path):
    bundle.save(tmp_path / "bundle")
    command = [sys.executable, "-m", "headstart_pipelines.cli", "serve", str(tmp_path / "bundle"), "--port", "0"]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        loading, serving = process.stdout.readline(), process.stdout.readline()
        assert loading == f"loading {tmp_path / 'bundle'} …\n"
        url = serving.split(" at ")[1].split(";")[0]
        body = json.dumps({"inputs": TEXTS}).encode()
        asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(asked, timeout=60) as response:  # noqa: S310
            found = json.load(response)["predictions"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    expected = bundle.predict_probabilities(PIXELS)
    assert [row["p_dog"] for row in found] == pytest.approx(expected[:, 1].tolist(), abs=1e-4)


def test_an_average_of_several_models_is_served_as_one(bundle):
    torch.manual_seed(1)
    networks = [bundle.network, convnet(classes=3, channels=1).eval()]
    together = replace(
        bundle,
        network=ensemble(networks, [1.0, 0.5]).eval(),
        architecture=ensemble_name(["convnet"] * 2),
    )
    with TestClient(http_server.application(together, http_server.predictor(together, threads=1))) as client:
        records = client.post("/invocations", json={"inputs": TEXTS}).json()["predictions"]
    found = [[each["p_cat"], each["p_dog"], each["p_owl"]] for each in records]
    assert np.allclose(found, together.predict_probabilities(PIXELS), atol=1e-5)
    assert not np.allclose(found, bundle.predict_probabilities(PIXELS), atol=1e-3)
