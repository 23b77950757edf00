"""What a served bundle answers, by the functions that MLflow's scoring server calls for each request."""

import base64
import copy
import io
import json
import re
import shutil
import warnings
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from PIL import Image
from starlette.testclient import TestClient

from headstart.errors import InputError
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures.convnet import convnet
from headstart.models.bundle import ModelBundle
from headstart.models.inputs import raw_samples
from headstart.models.prediction import answers, predict
from headstart.tracking import http_server, request, serving
from headstart.tracking.logged_model import requirement_of, save_pyfunc
from headstart.version import __version__

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, format="PNG")
    return file.getvalue()


def blank(side: int) -> bytes:
    """A small file of a large picture."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, format="PNG")
    return file.getvalue()


def packed_table(rows: int) -> bytes:
    """A small Parquet table of many equal rows."""
    file = io.BytesIO()
    pd.DataFrame({"image": ["x"] * rows}).to_parquet(file)
    return file.getvalue()


def in_base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


FILES = [png(pixels) for pixels in PIXELS]
TEXTS = [in_base64(file) for file in FILES]


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    torch.manual_seed(0)
    network = convnet(classes=3, channels=1)
    torch.nn.init.normal_(network.head.weight, std=5.0)
    preprocessing = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.3,))
    return ModelBundle(network.eval(), "convnet", "image", preprocessing, ("cat", "dog", "owl"), temperature=2.0)


@pytest.fixture(scope="module")
def logged(bundle, tmp_path_factory) -> Path:
    """The bundle as MLflow keeps a model."""
    home = tmp_path_factory.mktemp("served")
    bundle.save(home / "bundle")
    with warnings.catch_warnings():
        # What MLflow would have us improve.
        warnings.simplefilter("error", UserWarning)
        save_pyfunc(home / "model", bundle, {"bundle": home / "bundle"})
    return home / "model"


@pytest.fixture(scope="module")
def served(logged) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        return mlflow.pyfunc.load_model(str(logged))


@pytest.fixture
def expected(bundle) -> pd.DataFrame:
    return answers(bundle, bundle.predict_probabilities(PIXELS))


def over_http(served: Any) -> TestClient:
    """A client of `headstart serve`'s application for the same model."""
    if not hasattr(served, "over_http"):
        bundle = served.unwrap_python_model().bundle
        served.over_http = TestClient(http_server.application(bundle, bundle.predict_probabilities))
    return served.over_http


def ask(served: Any, request: Any, content_type: str = "application/json") -> pd.DataFrame:
    """What both servers answer to a request: MLflow's, and that of `headstart serve`."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    answer = scoring_server.invocations(body, content_type, served, served.metadata.get_input_schema())
    assert answer.status == 200
    found = pd.DataFrame(json.loads(answer.response)["predictions"])
    ours = over_http(served).post("/invocations", content=body, headers={"content-type": content_type})
    assert ours.status_code == 200
    assert same(pd.DataFrame(ours.json()["predictions"]), found)
    return found


def refusal(served: Any, request: Any, content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
    """The status and the content with which both servers refuse a request."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    with pytest.raises(MlflowException) as refused:
        scoring_server.invocations(body, content_type, served, served.metadata.get_input_schema())
    found = refused.value.get_http_status_code(), json.loads(refused.value.serialize_as_json())
    ours = over_http(served).post("/invocations", content=body, headers={"content-type": content_type})
    if len(body) > 32 * 2**20:
        # It is not even received.
        assert (ours.status_code, "more than 32 MiB" in ours.json()["message"]) == (413, True)
    else:
        assert (ours.status_code, ours.json()) == found
    return found


def same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-5)
    return True


@pytest.mark.parametrize(
    "request_of",
    [
        lambda texts: {"dataframe_records": [{"image": text} for text in texts]},
        lambda texts: {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        lambda texts: {"inputs": texts},
        lambda texts: {"inputs": {"image": texts}},
        lambda texts: {"instances": texts},
        lambda texts: {"instances": [{"image": text} for text in texts]},
    ],
    ids=["records", "split", "inputs", "named inputs", "instances", "named instances"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_files_in_base64_are_answered_one_record_each(served, expected, request_of, count):
    assert same(ask(served, request_of(TEXTS[:count])), expected[:count])


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("count", [1, 3])
def test_pixels_are_answered_as_the_files_that_hold_them(served, expected, key, count):
    assert same(ask(served, {key: PIXELS[:count].tolist()}), expected[:count])


def test_a_parquet_table_of_files_is_answered(served, expected):
    table = io.BytesIO()
    pd.DataFrame({"image": FILES}).to_parquet(table)
    assert same(ask(served, table.getvalue(), "application/vnd.apache.parquet"), expected)


def test_a_csv_table_of_base64_text_is_answered(served, expected):
    table = pd.DataFrame({"image": TEXTS}).to_csv(index=False).encode()
    assert same(ask(served, table, "text/csv"), expected)


def test_base64_may_be_broken_into_lines(served, expected):
    broken = base64.encodebytes(FILES[0]).decode()
    assert "\n" in broken.strip()
    assert same(ask(served, {"inputs": [broken]}), expected[:1])


def test_a_picture_of_any_size_and_colour_is_read_as_headstart_predict_does(served, bundle, tmp_path):
    large = png(np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8))
    (tmp_path / "large.png").write_bytes(large)
    (table,) = predict(bundle, raw_samples([str(tmp_path / "large.png")], "image"))
    found = ask(served, {"inputs": [in_base64(large)]})
    assert same(found, table.drop(columns=["path", "error"]))


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        {"image": PIXELS},
        pd.DataFrame({"image": FILES}),
        pd.DataFrame({"image": TEXTS}),
        np.array(FILES, dtype=object),
        pd.Series(FILES, name="image"),
        PIXELS.astype(np.int64),
    ],
    ids=["uint8", "mapping", "bytes", "base64", "object array", "series", "int64"],
)
def test_python_gives_arrays_and_tables(served, expected, images):
    assert same(served.predict(images), expected)


def test_the_example_is_a_request_that_is_answered_for_two(logged, served):
    example = json.loads((logged / "serving_input_example.json").read_text())
    assert len(ask(served, example)) == 2
    assert len(served.predict(mlflow.models.Model.load(logged).load_input_example(str(logged)))) == 2


def test_the_signature_names_what_goes_in_and_comes_out(bundle):
    signature = serving.signature(bundle)
    assert signature.inputs.input_names() == ["image"]
    assert signature.outputs.input_names() == ["label", "probability", "p_cat", "p_dog", "p_owl"]


SHAPE = r"\(N, 16, 16, 1\)"
ROWS = PIXELS.astype(int).tolist()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"inputs": [TEXTS[0], "no base64!"]}, "Picture 1 of the request cannot be read: its text is not base64"),
        ({"inputs": [""]}, "Picture 0 .* the file is empty"),
        ({"inputs": [in_base64(b"some text")]}, "Picture 0 .* not an image in a known format"),
        ({"inputs": [in_base64(FILES[0][:60])]}, "Picture 0 .* damaged"),
        ({"inputs": [in_base64(blank(10_000))]}, "Picture 0 .* more than 64 megapixels"),
        ({"inputs": [in_base64(blank(3600))]}, "The request's pictures have more than 12.5 megapixels; shrink them or"),
        ({"inputs": 2 * [in_base64(blank(2600))]}, "The request's pictures have more than 12.5 megapixels"),
        ({"dataframe_records": [{"image": TEXTS[0]}, {}]}, "Picture 1 .* of type"),
        ({"dataframe_records": [{"image": 3}]}, f"Picture 0 .* of type int; give .* {SHAPE}"),
        ({"inputs": None}, "Picture 0 .* of type NoneType"),
        ({"inputs": []}, "The request holds no image"),
        ({"inputs": ROWS[0]}, f"The pixels have the shape .*, not {SHAPE}"),
        ({"inputs": PIXELS[:, :8].tolist()}, f"The pixels have the shape .*, not {SHAPE}"),
        ({"inputs": np.repeat(PIXELS, 3, axis=3).tolist()}, f"The pixels have the shape .*, not {SHAPE}"),
        ({"inputs": [ROWS[0], ROWS[1][:4]]}, "Picture 0 .* of type list"),
        ({"inputs": (PIXELS / 255).tolist()}, "The pixels are of type float64; give integers from 0 to 255"),
        ({"inputs": np.full((1, 16, 16, 1), 256).tolist()}, "The pixels range from 256 to 256"),
        ({"inputs": np.full((1, 16, 16, 1), -1).tolist()}, "The pixels range from -1 to -1"),
        ({"inputs": np.full((1, 16, 16, 1), 10**30, dtype=object).tolist()}, "The pixels are of type object"),
        ({"inputs": np.full((1, 16, 16, 1), "a").tolist()}, "The pixels are of type"),
        ({"inputs": np.full((1, 16, 16, 1), True).tolist()}, "The pixels are of type bool"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_the_reason_and_nothing_else(served, request_, sentence):
    status, answer = refusal(served, request_)
    assert status == 400
    assert answer.keys() == {"error_code", "message"}
    assert len(answer["message"]) < 300
    assert re.search(sentence, answer["message"]), answer["message"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"dataframe_records": [{"picture": TEXTS[0]}]}, ["missing inputs ['image']", "extra inputs: ['picture']"]),
        ({"dataframe_records": []}, ["missing inputs ['image']"]),
        ({"pictures": TEXTS}, ["exactly one of the input fields", "dataframe_records"]),
        (b"{", ["valid JSON"]),
    ],
)
def test_what_does_not_have_the_signature_is_refused_by_mlflow(served, request_, words):
    status, answer = refusal(served, request_)
    assert status == 400
    assert "stack_trace" not in answer
    for word in words:
        assert word in answer["message"]


@pytest.mark.parametrize(
    ("request_", "content_type", "words"),
    [
        (b'image\n"open', "text/csv", "valid CSV-formatted"),
        (b"", "text/csv", "valid CSV-formatted"),
        (b"image\nno base64!", "text/csv", "Picture 0 of the request cannot be read: its text is not base64"),
        (b"picture\nx", "text/csv", "missing inputs"),
        (b"junk", "application/vnd.apache.parquet", "valid Parquet"),
        (b"[" * 50_000, "application/json", "The request is not JSON that can be read"),
        (b'{"inputs": ' + b"1" * 5000 + b"}", "application/json", "The request is not JSON that can be read"),
        (b'{"pictures": "' + b"A" * 100_000 + b'"}', "application/json", "exactly one of the input fields"),
        (b'{"instances": [{"picture": "' + b"A" * 100_000 + b'"}]}', "application/json", "missing inputs"),
        (b" " * (32 * 2**20 + 1), "application/json", "The request would take more than 256 MiB to read; send fewer"),
        (b'{"inputs": [' + b"0," * 700_000, "application/json", "The request would take more than 256 MiB to read"),
        (b'{"inputs": [' + b"[" * 700_000, "application/json", "The request would take more than 256 MiB to read"),
        (b"image\n" * 700_000, "text/csv", "The request would take more than 256 MiB to read"),
        (packed_table(1_000_000), "application/vnd.apache.parquet", "The request would take more than 256 MiB to"),
    ],
    ids=["open quote", "no table", "no base64", "no image", "no parquet", "deep", "long number", "other key",
         "other name", "large", "many pixels", "many lists", "many rows", "many equal rows"],
)  # fmt: skip
def test_what_cannot_be_parsed_is_refused_with_a_short_sentence_and_no_stack_trace(
    served, request_, content_type, words
):
    status, answer = refusal(served, request_, content_type)
    assert status == 400
    assert words in answer["message"]
    assert len(answer["message"]) < 1100
    assert "stack_trace" not in answer


def test_a_request_without_a_content_type_is_told_which_there_are(served):
    answer = scoring_server.invocations(b"{}", None, served, served.metadata.get_input_schema())
    assert (answer.status, "application/json" in answer.response) == (415, True)


def test_a_request_for_which_there_is_no_memory_is_told_to_ask_again(served, expected, monkeypatch):
    monkeypatch.setattr(request, "_PATIENCE_SECONDS", 0)
    for room in (request._REQUESTS, request._PICTURES):
        with room.take(2**40):
            status, answer = refusal(served, {"inputs": TEXTS})
        assert status == 429
        assert answer["message"].endswith("ask again.")
    assert same(ask(served, {"inputs": TEXTS}), expected)


def test_whoever_asks_in_python_may_ask_for_any_number_of_pictures(served, expected):
    files = pd.DataFrame({"image": [*FILES, blank(2600), blank(2600)]})
    assert same(served.predict(files)[:3], expected)


@pytest.mark.parametrize("damage", ["weights", "mean", "temperature"])
def test_a_model_whose_results_are_no_numbers_answers_no_request(bundle, tmp_path, damage):
    damaged = copy.deepcopy(bundle)
    if damage == "weights":
        damaged.network.head.weight.data[0, 0] = float("nan")
    elif damage == "mean":
        damaged.preprocessing = Preprocessing(size=16, channels=1, mean=(float("nan"),), std=(0.3,))
    else:
        damaged.temperature = 1e-45
    model = serving.ServedBundle()
    model.bundle = damaged
    with pytest.raises(MlflowException, match=r"^The model's results are no numbers: .* take another version"):
        model.predict(None, {"image": PIXELS})


def test_pixels_of_another_type_are_refused_in_python_too(served):
    for wrong in (PIXELS.astype(np.float32), PIXELS.astype(np.int64) + 1000, PIXELS[:, :8]):
        with pytest.raises(MlflowException, match="The pixels"):
            served.predict(wrong)


@pytest.mark.parametrize(
    ("damage", "sealed", "reason"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), False, "is not the file that SHA256SUMS lists"),
        (lambda content: content[:12], True, "is not a whole safetensors file"),
        (lambda content: b"\x80\x04K\x01.", True, "is a pickle"),
    ],
    ids=["flipped byte", "truncated header", "pickle"],
)
def test_a_bundle_that_is_not_what_it_was_is_not_served(logged, tmp_path, damage, sealed, reason):
    bundle = shutil.copytree(logged, tmp_path / "model") / "artifacts" / "bundle"
    content = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(damage(content))
    if sealed:
        sums, old, new = (
            (bundle / "SHA256SUMS").read_text(),
            *(sha256(c).hexdigest() for c in (content, damage(content))),
        )
        (bundle / "SHA256SUMS").write_text(sums.replace(old, new))
    with pytest.raises(InputError, match=rf"model\.safetensors {reason}"):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))


def test_a_model_that_knows_no_classes_refuses_every_request(bundle, tmp_path):
    headless = copy.deepcopy(bundle)
    headless.network.replace_head(0)
    headless.classes = ()
    headless.save(tmp_path / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        mlflow.pyfunc.save_model(
            tmp_path / "model",
            python_model=serving.__file__,
            artifacts={"bundle": str(tmp_path / "bundle")},
            signature=serving.signature(headless),
            pip_requirements=["headstart"],
        )
        served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    status, answer = refusal(served, {"inputs": TEXTS})
    assert status == 400
    assert answer["message"].endswith("knows no classes; transfer it to a target first.")


@pytest.mark.parametrize(
    ("architecture", "modality", "extras"),
    [
        ("convnet", "image", ""),
        ("timm/vit_tiny_patch16_224?img_size=64", "image", "[timm]"),
        ("contrastive/clip?hidden_size=32", "image", "[transformers]"),
        ("waveform/wav2vec2?hidden_size=384", "waveform", "[audio,transformers]"),
        ("convnet", "audio", "[audio]"),
        ("transformer_tiny", "text", "[text]"),
        ("int8/timm/vit_tiny_patch16_224", "image", "[onnx]"),
        ("ensemble/classical/svc+timm/resnet18", "image", "[timm]"),
    ],
)
def test_a_registered_model_asks_pip_for_all_that_runs_it(bundle, architecture, modality, extras):
    asked = requirement_of(replace(bundle, architecture=architecture, modality=modality))
    assert asked == f"headstart{extras}=={__version__}"
