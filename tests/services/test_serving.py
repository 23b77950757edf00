"""The champion answers: over HTTP from `mlflow models serve`, and to `headstart predict` for images in S3."""

import base64
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.models.prediction import answers
from headstart.storage import s3
from headstart.tracking.client import connect
from headstart.tracking.registration import register
from headstart.tracking.runs import experiment_named, new_parent
from tests.services.servers import Process, free_ports, server_environment
from tests.services.servers import answers as is_up
from tests.services.stack import Stack

pytestmark = pytest.mark.services

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
MODEL = "served-target"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, format="PNG")
    return file.getvalue()


FILES = [png(pixels) for pixels in PIXELS]
TEXTS = [base64.b64encode(file).decode() for file in FILES]


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    torch.manual_seed(0)
    network = convnet(classes=3, channels=1)
    torch.nn.init.normal_(network.head.weight, std=5.0)
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    provenance = {"role": "target", "strategy": "full", "data_digest": "sha256:1", "head": "trained"}
    return ModelBundle(
        network.eval(), "convnet", "image", preprocessing, ("cat", "dog", "owl"), temperature=2.0, provenance=provenance
    )


@pytest.fixture(scope="module")
def expected(bundle: ModelBundle) -> pd.DataFrame:
    return answers(bundle, bundle.predict_probabilities(PIXELS))


@pytest.fixture(scope="module")
def champion(stack: Stack, bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI under which the bundle is registered as champion."""
    import mlflow

    path = tmp_path_factory.mktemp("champion") / "bundle"
    bundle.save(path)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.environment.items():
            patch.setenv(name, value)
        mlflow.set_tracking_uri(stack.uri)
        client = connect()
        run = new_parent(client, experiment_named(client, "served"), name="served", pipeline_run="served-0")
        registered = register(run, path, model=MODEL)
        client.set_registered_model_alias(MODEL, "champion", registered.version)
    return f"models:/{MODEL}@champion"


@pytest.fixture(scope="module")
def server(stack: Stack, champion: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which `mlflow models serve` answers for the champion."""
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", champion, "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = {
        # MLflow starts the server by its name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **stack.environment,
    }
    process = Process("serve", command, tmp_path_factory.mktemp("serve"), environment=environment)
    try:
        process.wait_until(lambda: is_up(f"http://127.0.0.1:{port}/ping"))
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        process.stop()


def post(url: str, body: Any, content_type: str = "application/json") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    columns = list(expected)
    pd.testing.assert_frame_equal(found[columns], expected, check_dtype=False, atol=1e-5)
    return True


@pytest.mark.parametrize(
    "request_",
    [
        {"dataframe_records": [{"image": text} for text in TEXTS]},
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in TEXTS]}},
        {"inputs": TEXTS},
        {"inputs": PIXELS.tolist()},
    ],
    ids=["records", "split", "inputs", "pixels"],
)
def test_the_champion_answers_over_http_with_the_bundles_own_probabilities(server, expected, request_):
    status, answer = post(server, request_)
    assert status == 200
    assert same(pd.DataFrame(answer["predictions"]), expected)


def test_the_champion_answers_a_parquet_table_without_base64(server, expected):
    table = io.BytesIO()
    pd.DataFrame({"image": FILES}).to_parquet(table)
    status, answer = post(server, table.getvalue(), "application/vnd.apache.parquet")
    assert status == 200
    assert same(pd.DataFrame(answer["predictions"]), expected)


def test_requests_at_the_same_time_get_each_their_own_answer(server, expected):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: post(server, {"inputs": [TEXTS[row % 4]]})[1]["predictions"][0], range(32)))
    assert same(pd.DataFrame(found), expected.iloc[np.arange(32) % 4].reset_index(drop=True))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"dataframe_records": [{"image": "no base64!"}]}, "Picture 0 of the request cannot be read: its text is not"),
        ({"inputs": [TEXTS[0][:80]]}, "Picture 0 of the request cannot be read: "),
        ({"inputs": PIXELS[:, :8].tolist()}, "The pixels have the shape (4, 8, 16, 1), not (N, 16, 16, 1)"),
        ({"inputs": (PIXELS / 255.0).tolist()}, "The pixels are of type float64"),
        ({"dataframe_records": [{"picture": TEXTS[0]}]}, "missing inputs ['image']"),
        ({"pictures": TEXTS}, "exactly one of the input fields"),
        (b"{", "valid JSON"),
    ],
)
def test_a_wrong_request_is_answered_with_400_and_a_sentence(server, request_, sentence):
    status, answer = post(server, request_)
    assert status == 400
    assert sentence in answer["message"]
    assert "Traceback" not in json.dumps(answer)


def test_the_champion_is_loaded_in_python_by_its_alias(champion, expected, record):
    import mlflow

    served = mlflow.pyfunc.load_model(champion)
    assert served.metadata.signature.inputs.input_names() == ["image"]
    assert same(served.predict(PIXELS), expected)
    assert same(served.predict(pd.DataFrame({"image": FILES})), expected)


@pytest.fixture(scope="module")
def scans(stack: Stack, bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prefix in S3 with four pictures, a broken one apart, a list of some, and the bundle."""
    path = tmp_path_factory.mktemp("scans") / "bundle"
    bundle.save(path)
    objects = {f"scans/new/{number}.png": file for number, file in enumerate(FILES)}
    objects |= {"scans/new/notes.txt": b"no picture", "scans/broken/1.png": FILES[0][:60]}
    objects |= {"scans/list.csv": b"path\nnew/2.png\nnew/none.png\n"}
    objects |= {f"models/bundle/{file.name}": file.read_bytes() for file in path.iterdir()}
    for key, content in objects.items():
        stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=content)
    return f"s3://{stack.bucket}/scans"


def headstart(stack: Stack, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**server_environment(), **stack.environment, **stack.s3_environment, **variables}
    return subprocess.run(
        [sys.executable, "-m", "headstart_pipelines.cli", *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_predict_reads_from_s3_and_writes_to_it(stack, champion, scans, expected):
    output = f"s3://{stack.bucket}/results/table.parquet"
    done = headstart(stack, "predict", champion, f"{scans}/new/", "-o", output, "--batch-size", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 files: {output}\n"
    stored = stack.s3.get_object(Bucket=stack.bucket, Key="results/table.parquet")["Body"].read()
    table = pd.read_parquet(io.BytesIO(stored))
    assert table["path"].tolist() == [f"{scans}/new/{number}.png" for number in range(4)]
    assert same(table, expected)


def test_predict_takes_a_bundle_and_a_table_from_s3_and_goes_on_after_what_is_not_there(stack, scans, expected):
    bundle = f"s3://{stack.bucket}/models/bundle"
    done = headstart(stack, "predict", bundle, f"{scans}/list.csv", f"{scans}/broken/1.png", "--json")
    rows = json.loads(done.stdout)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert [row["path"].removeprefix(scans) for row in rows] == ["/new/2.png", "/new/none.png", "/broken/1.png"]
    assert rows[0]["label"] == expected["label"][2]
    assert rows[0]["p_owl"] == pytest.approx(expected["p_owl"][2], abs=1e-5)
    assert "no object" in rows[1]["error"]
    assert "damaged" in rows[2]["error"]


@pytest.mark.parametrize(
    ("path", "variables", "words"),
    [
        ("new/", {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, ["refuses access", "AWS_SECRET_ACCESS_KEY"]),
        ("new/", {"AWS_ACCESS_KEY_ID": "nobody"}, ["refuses access", "AWS_ACCESS_KEY_ID"]),
        ("new/", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, ["127.0.0.1:9 does not answer", "AWS_ENDPOINT_URL"]),
        ("none/", {}, ["no object"]),
        ("none.png", {}, ["no object"]),
    ],
)
def test_predict_says_in_one_sentence_what_keeps_it_from_s3(stack, champion, scans, path, variables, words):
    done = headstart(stack, "predict", champion, f"{scans}/{path}", **variables)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    for word in ["headstart: ", "s3://", *words]:
        assert word in line
    for secret in (stack.s3_environment["AWS_SECRET_ACCESS_KEY"], "wrong-secret"):
        assert secret not in line


def test_predict_names_a_bucket_that_is_not_there(stack, champion):
    done = headstart(stack, "predict", champion, "s3://no-such-bucket/new/")
    assert done.returncode == 2
    assert "There is no bucket no-such-bucket" in done.stderr


def test_a_prefix_of_more_objects_than_one_page_is_listed_whole(stack, monkeypatch):
    for name, value in stack.s3_environment.items():
        monkeypatch.setenv(name, value)
    s3.client.cache_clear()
    uris = [f"s3://{stack.bucket}/many/{number:04}.png" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda uri: s3.write_object(uri, b""), uris))
    assert [found.uri for found in s3.list_objects(f"s3://{stack.bucket}/many/")] == uris
    s3.client.cache_clear()


@pytest.mark.parametrize("damage", ["flipped byte", "truncated header", "pickle"])
def test_a_bundle_that_was_tampered_with_in_the_store_is_refused_by_name_wherever_it_is_loaded(
    stack, bundle, tmp_path, damage, record, request
):
    import mlflow

    path, model = tmp_path / "bundle", f"tampered-{damage.replace(' ', '-')}"
    bundle.provenance = {**bundle.provenance, "seed": damage}
    bundle.save(path)
    run = new_parent(record, experiment_named(record, "tampered"), name=damage, pipeline_run=damage)
    registered = register(run, path, model=model)
    location = record.get_model_version_download_uri(model, registered.version)
    weights = f"{location.removeprefix('mlflow-artifacts:/').strip('/')}/artifacts/bundle/model.safetensors"
    content = (path / "model.safetensors").read_bytes()
    assert stack.s3.get_object(Bucket=stack.bucket, Key=weights)["Body"].read() == content
    changed = {
        "flipped byte": content[:-1] + bytes([content[-1] ^ 1]),
        "truncated header": content[:12],
        "pickle": b"\x80\x04K\x01.",
    }[damage]
    stack.s3.put_object(Bucket=stack.bucket, Key=weights, Body=changed)
    # Other modules read all that the store holds.
    request.addfinalizer(partial(stack.s3.put_object, Bucket=stack.bucket, Key=weights, Body=content))
    (tmp_path / "1.png").write_bytes(FILES[0])
    for arguments in (
        ["predict", f"models:/{model}/1", str(tmp_path)],
        ["export", f"models:/{model}/1", "-o", "x.onnx"],
    ):
        done = headstart(stack, *arguments)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert "model.safetensors" in line
    with pytest.raises(InputError, match=r"model\.safetensors"):
        mlflow.pyfunc.load_model(f"models:/{model}/1")
    (path / "model.safetensors").write_bytes(changed)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        register(run, path, model=model)
