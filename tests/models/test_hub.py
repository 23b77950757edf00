"""Models of a hub, through its own client and a server with its addresses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.errors import InputError
from headstart.models.importing import import_source
from headstart.models.sources import load_source, pin_source
from tests.hub.server import Hub, serving
from tests.modalities.waveform.encoders import write
from tests.models.test_imported import vit

TIMM = "test_resnet.r160_in1k"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty cache, and a client that asks it and nobody else."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    with serving(Hub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        yield hub


def saved(folder: Path, bias: float = 0.0) -> Path:
    """A tiny model of transformers, whose classifier's bias tells versions apart."""
    model = vit(folder)
    nn.init.constant_(model.classifier.bias, bias)
    model.save_pretrained(folder)
    return folder


def bias_of(uri: str) -> float:
    return load_source(uri).network.head.bias[0].item()


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Go on as a machine with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / name))


def test_a_pinned_model_stays_what_it_was_when_its_branch_moves_on(hub, tmp_path, monkeypatch):
    repository = hub.repository("somebody/tiny")
    first = repository.commit(saved(tmp_path / "first", bias=1.0))
    pinned = pin_source("hf://somebody/tiny")
    second = repository.commit(saved(tmp_path / "second", bias=2.0))

    elsewhere(tmp_path, monkeypatch, "other")
    assert pinned.startswith(f"hf://somebody/tiny@{first}#sha256=")
    assert bias_of(pinned) == 1.0
    again = pin_source("hf://somebody/tiny")
    assert again.startswith(f"hf://somebody/tiny@{second}#sha256=")
    assert bias_of(again) == 2.0


def test_a_branch_or_tag_is_a_revision(hub, tmp_path):
    repository = hub.repository("somebody/tiny")
    repository.commit(saved(tmp_path / "main", bias=1.0))
    tagged = repository.commit(saved(tmp_path / "old", bias=2.0), branch="v1.0")
    assert pin_source("hf://somebody/tiny@v1.0").startswith(f"hf://somebody/tiny@{tagged}#")
    assert bias_of("hf://somebody/tiny@v1.0") == 2.0


def test_all_files_are_of_one_commit_though_the_branch_moves_between_them(hub, tmp_path, monkeypatch):
    from headstart.models.foreign.hub import Repository as Fetched

    repository = hub.repository("somebody/tiny")
    repository.commit(saved(tmp_path / "first", bias=1.0))
    fetched, optional = [], Fetched.optional

    def moved(self, name):
        if fetched == ["config.json"]:
            repository.commit(saved(tmp_path / "second", bias=2.0))
        fetched.append(name)
        return optional(self, name)

    monkeypatch.setattr(Fetched, "optional", moved)
    assert bias_of("hf://somebody/tiny") == 1.0
    assert repository.references["main"] != next(iter(repository.commits))


def test_a_commit_whose_content_is_another_now_is_refused(hub, tmp_path, monkeypatch):
    repository = hub.repository("somebody/tiny")
    commit = repository.commit(saved(tmp_path / "first", bias=1.0))
    pinned = pin_source("hf://somebody/tiny")
    saved(tmp_path / "second", bias=2.0)
    repository.commits[commit]["model.safetensors"] = (tmp_path / "second" / "model.safetensors").read_bytes()

    elsewhere(tmp_path, monkeypatch, "other")
    with pytest.raises(InputError, match=r"was pinned to sha256:.* and its content is sha256:.* now"):
        load_source(pinned)


def test_a_network_for_sound_comes_with_the_settings_of_its_feature_extractor(hub, tmp_path):
    write(tmp_path / "saved", "wav2vec2", rate=8000)
    commit = hub.repository("somebody/sound").commit(tmp_path / "saved")

    pinned = pin_source("hf://somebody/sound")
    bundle = load_source(pinned, modality="waveform")

    assert pinned.startswith(f"hf://somebody/sound@{commit}#sha256=")
    assert (bundle.preprocessing.given.rate, bundle.classes) == (8000, ("no", "stop", "yes"))


def test_each_file_is_sent_once_and_none_where_the_client_is_offline(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub.repository("somebody/tiny").commit(saved(tmp_path / "saved", bias=1.0))
    pinned = pin_source("hf://somebody/tiny")
    load_source(pinned)
    assert set(hub.sent.values()) == {1}

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.repositories.clear()
    assert bias_of(pinned) == bias_of("hf://somebody/tiny") == 1.0


def test_a_gated_model_asks_for_its_licence_and_opens_with_a_token(hub, tmp_path, monkeypatch):
    repository = hub.repository("somebody/gated")
    repository.commit(saved(tmp_path / "saved", bias=1.0))
    repository.token = "hf_let_me_in"
    with pytest.raises(InputError, match="asks for a licence to be accepted; do so on its page and set HF_TOKEN"):
        pin_source("hf://somebody/gated")

    monkeypatch.setenv("HF_TOKEN", "hf_let_me_in")
    assert bias_of("hf://somebody/gated") == 1.0


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("hf://nobody/nothing", "the hub has no such model or revision, or it is private; correct it, or set HF_TOKEN"),
        ("hf://somebody/tiny@v9", "the hub has no such model or revision"),
        ("hf://somebody/empty", "the repository has no file config.json"),
    ],
)
def test_what_the_hub_has_not_is_said_without_its_clients_words(hub, uri, told, tmp_path):
    hub.repository("somebody/tiny").commit(saved(tmp_path / "saved"))
    (tmp_path / "empty").mkdir()
    hub.repository("somebody/empty").commit(tmp_path / "empty")
    with pytest.raises(InputError, match=told):
        pin_source(uri)


def test_a_download_that_is_cut_short_is_refused_and_made_good_by_the_next(hub, tmp_path):
    repository = hub.repository("somebody/tiny")
    repository.commit(saved(tmp_path / "saved", bias=1.0))
    repository.cut_short.add("model.safetensors")
    with pytest.raises(InputError, match=f"hf://somebody/tiny cannot be fetched from {hub.address}"):
        pin_source("hf://somebody/tiny")

    repository.cut_short.clear()
    assert bias_of("hf://somebody/tiny") == 1.0


def test_a_hub_that_does_not_answer_says_what_to_place_where(hub, monkeypatch):
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{nowhere}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    with pytest.raises(InputError, match="run `hf download somebody/tiny` and copy that folder here"):
        pin_source("hf://somebody/tiny")


def test_timms_published_weights_come_from_the_hub_at_a_commit(hub, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model(TIMM, pretrained=False).eval()
    (tmp_path / "saved").mkdir()
    save_file(model.state_dict(), tmp_path / "saved" / "model.safetensors")
    repository = hub.repository(f"timm/{TIMM}")
    commit = repository.commit(tmp_path / "saved")
    pinned = pin_source(f"timm://{TIMM}")
    assert pinned.startswith(f"timm://{TIMM}@{commit}#sha256=")
    save_file(
        {name: tensor + 1 for name, tensor in model.state_dict().items()}, tmp_path / "saved" / "model.safetensors"
    )
    repository.commit(tmp_path / "saved")

    elsewhere(tmp_path, monkeypatch, "other")
    imported = import_source(pinned, tmp_path / "bundle")

    inputs = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert np.allclose(imported.bundle.network(inputs), model(inputs), atol=1e-5)
    assert hub.sent[f"timm/{TIMM}/model.safetensors"] == 2


def test_the_clients_own_variables_name_the_hub_the_cache_and_whether_there_is_a_network(hub, tmp_path):
    """In a process of its own, as its client reads them when it is imported."""
    hub.repository("somebody/tiny").commit(saved(tmp_path / "saved"))
    program = (
        "import json, sys\nfrom headstart.models.sources import pin_source\nprint(json.dumps(pin_source(sys.argv[1])))"
    )
    given = {**os.environ, "HF_HOME": str(tmp_path / "home")}

    def pin(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, "hf://somebody/tiny"], capture_output=True, text=True, env=given | variables
        )

    online, offline = pin(HF_ENDPOINT=hub.address), pin(HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert online.returncode == offline.returncode == 0, online.stderr + offline.stderr
    assert json.loads(online.stdout) == json.loads(offline.stdout)
    assert list((tmp_path / "home").rglob("model.safetensors"))
