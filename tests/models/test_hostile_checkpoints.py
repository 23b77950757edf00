"""Checkpoints that lie, are damaged or would run code: each is refused in one sentence, and nothing runs."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.architectures.convnet import convnet
from headstart.models.sources import load_source

CONFIG = {
    "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": 16, "patch_size": 8, "id2label": {"0": "a", "1": "b"},
}  # fmt: skip
TIMM = {"architecture": "test_vit", "pretrained_cfg": {"input_size": [3, 160, 160], "mean": [0.5], "std": [0.5]}}
STATE = convnet(classes=2, channels=3).state_dict()
WEIGHTS = "weights.pth?architecture=convnet"
SAFE = "weights.safetensors?architecture=convnet"


class Trap:
    """Makes a file called `sprung` if it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def torch_file(content: object) -> Callable[[], str]:
    def make() -> str:
        torch.save(content, "weights.pth")
        return WEIGHTS

    return make


def raw_file(content: bytes, reference: str = SAFE) -> Callable[[], str]:
    def make() -> str:
        Path(reference.partition("?")[0]).write_bytes(content)
        return reference

    return make


def safe_file(state: dict[str, torch.Tensor], reference: str = SAFE) -> Callable[[], str]:
    def make() -> str:
        save_file(state, "weights.safetensors")
        return reference

    return make


def folder(config: object, **files: bytes) -> Callable[[], str]:
    def make() -> str:
        Path("model").mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        Path("model/config.json").write_text(text)
        contents = {"model.safetensors": save({"a": torch.ones(2)}), **files}
        for name, content in contents.items():
            if content:
                Path("model", name.replace("__", ".")).write_bytes(content)
        return "model"

    return make


def header(tensors: dict[str, object], values: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + values


def index(places: object) -> dict[str, bytes]:
    return {"model.safetensors": b"", "model.safetensors.index.json": json.dumps({"weight_map": places}).encode()}


HOSTILE: dict[str, tuple[Callable[[], str], str]] = {
    "a pickle that runs code": (raw_file(pickle.dumps(Trap(), protocol=2), WEIGHTS), "could run code|cannot be read"),
    "a trap among the tensors": (torch_file({**STATE, "trap": Trap()}), "could run code"),
    "a trap in place of the state dict": (torch_file({"state_dict": Trap()}), "could run code"),
    "a whole module": (torch_file(convnet(classes=2, channels=3)), "could run code"),
    "a pickle called safetensors": (raw_file(pickle.dumps(Trap())), "is a pickle"),
    "an archive of torch called safetensors": (raw_file(b"PK\x03\x04" + bytes(99)), "is a pickle"),
    "an empty file": (raw_file(b"", WEIGHTS), "cannot be read as weights"),
    "text": (raw_file(b"not weights at all", WEIGHTS), "cannot be read as weights|could run code"),
    "empty safetensors": (raw_file(b""), "not a whole safetensors"),
    "a header of exabytes": (raw_file(struct.pack("<Q", 2**62) + b"{}"), "more than 32 MB"),
    "a header longer than the file": (raw_file(struct.pack("<Q", 2**20) + b"{}"), "not a whole safetensors"),
    "a header that is no JSON": (raw_file(struct.pack("<Q", 4) + b"{a:}"), "not a whole safetensors"),
    "a tensor beyond the file": (
        raw_file(header({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})),
        "not a whole safetensors",
    ),
    "tensors on top of each other": (
        raw_file(header({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}, bytes(8))),
        "not a whole safetensors",
    ),
    "half a file": (raw_file(save(STATE)[:-1000]), "not a whole safetensors"),
    "values that are no numbers": (safe_file({**STATE, "head.bias": torch.tensor([0.0, torch.nan])}), "no finite"),
    "infinite values": (torch_file({**STATE, "head.bias": torch.tensor([0.0, torch.inf])}), "no finite numbers"),
    "terabytes by strides of 0": (torch_file({"a": torch.zeros(1).expand(2**20, 2**20)}), "more values than the file"),
    "a sparse tensor": (torch_file({"a": torch.eye(3).to_sparse()}), "not dense"),
    "numbers in place of tensors": (torch_file({"a": 1, "b": [2, 3]}), "no state dict"),
    "a list": (torch_file([torch.ones(2)]), "no state dict"),
    "no tensors": (torch_file({}), "no state dict"),
    "a tensor of another shape": (safe_file({**STATE, "head.weight": torch.ones(2, 7)}), "of another shape"),
    "a missing tensor": (safe_file({k: v for k, v in STATE.items() if k != "stages.0.0.weight"}), "missing"),
    "an architecture that is a path": (safe_file(STATE, "weights.safetensors?architecture=../../x"), "unknown arch"),
    "an architecture on a hub": (
        safe_file(STATE, "weights.safetensors?architecture=timm/hf-hub:evil/model"), "timm has no model",
    ),
    "settings that name a file": (
        safe_file(STATE, 'weights.safetensors?architecture=timm/test_vit?checkpoint_path="x.pth"'), "checkpoint_path",
    ),
    "code of the repository": (folder({**CONFIG, "auto_map": {"AutoModel": "evil.Model"}}), "asks for code"),
    "a type that nobody has": (folder({**CONFIG, "model_type": "../evil"}), "no image classifier of the type"),
    "a type that loads another library's model": (folder({**CONFIG, "model_type": "timm_wrapper"}), "no image class"),
    "a configuration of a network of terabytes": (
        folder({**CONFIG, "hidden_size": 2**20, "intermediate_size": 2**20, "num_attention_heads": 1}), "describes",
    ),
    "a setting that is a path": (folder({**CONFIG, "hidden_act": "/etc/passwd"}), "hidden_act"),
    "numbers without bound": (folder({**CONFIG, "num_hidden_layers": 10**30}), "num_hidden_layers"),
    "a configuration that is no JSON": (folder("{"), "is not JSON"),
    "a configuration of depth without end": (folder("[" * 100_000), "is not JSON"),
    "a configuration that is a list": (folder("[]"), "no JSON object"),
    "classes that are numbered wrongly": (folder({**CONFIG, "id2label": {"5": "a"}}), "number the classes"),
    "weights of another model": (folder(CONFIG), "does not hold the weights"),
    "weights as pickles only": (folder(CONFIG, **{"model.safetensors": b"", "pytorch_model.bin": b"x"}), "has no mod"),
    "an index that leaves the folder": (folder(CONFIG, **index({"a": "../../secret.safetensors"})), "no safetensors"),
    "an index of pickles": (folder(CONFIG, **index({"a": "shard.bin"})), "no safetensors file beside it"),
    "an index without files": (folder(CONFIG, **index({})), "no weight_map"),
    "quantised weights": (folder({**CONFIG, "quantization_config": {"bits": 4}}), "quantised"),
    "timm settings that name a file": (folder({**TIMM, "model_args": {"checkpoint_path": "x"}}), "checkpoint_path"),
    "a timm name on a hub": (folder({**TIMM, "architecture": "hf-hub:evil/model"}), "timm has no model"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_one_sentence_and_nothing_runs(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, reason = HOSTILE[case]
    reference = make()

    with pytest.raises(InputError, match=reason) as refused:
        load_source(reference)

    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 700
    assert not Path("sprung").exists()


@pytest.mark.parametrize("beginning", [b"\x80", b"PK"])
def test_a_good_file_is_read_whatever_its_headers_length_looks_like(beginning):
    """The length of a header of safetensors is any multiple of 8, and so the first bytes may be those of a pickle."""
    safe = save(STATE)
    (length,) = struct.unpack("<Q", safe[:8])
    header = safe[8 : 8 + length]
    wanted = next(size for size in range(length, 2**20, 8) if struct.pack("<Q", size).startswith(beginning))
    Path("weights.safetensors").write_bytes(struct.pack("<Q", wanted) + header.ljust(wanted) + safe[8 + length :])
    assert load_source(SAFE).provenance["head"] == "trained"


@pytest.mark.parametrize(
    "architecture",
    [
        "timm/test_vit?depth=1048576",
        "timm/test_resnet?layers=[900,900]",
        "transformers/vit?num_hidden_layers=1048576",
        'contrastive/clip?vision_config={"num_hidden_layers":1048576}',
    ],
)
def test_a_network_of_more_layers_than_any_has_is_refused_before_it_is_built(architecture):
    with pytest.raises(InputError, match=r"has the setting .*(depth|layers|vision_config)"):
        build_network(architecture, classes=2)
