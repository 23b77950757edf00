"""CLIP and SigLIP: classes by name, without a label, as transformers' own model of pictures and texts scores them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn

import headstart as hs
from headstart.errors import InputError
from headstart.models.bundle import ModelBundle
from headstart.models.exporting import export
from headstart.models.importing import import_source
from headstart.models.reference import Prompts, split_prompts, with_prompts
from headstart.models.sources import load_source, pin_source
from tests.models.test_imported import PHOTOGRAPHS

NAMES = ["cat", "dog", "barn owl"]
WORDS = [
    "<pad>", "<start>", "<unk>", "a", "photo", "sketch", "of", "cat", "dog", "barn", "owl", ".", "three", "five",
    "eight", "<end>",
]  # fmt: skip
END = len(WORDS) - 1
VISION = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 12, "vocab_size": len(WORDS), "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 5,
}  # fmt: skip


def saved(folder: Path, kind: str) -> nn.Module:
    """A tiny model of pictures and texts with random weights, its processor and its tokenizer."""
    import transformers

    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
        model = transformers.CLIPModel(config)
    else:
        text = {**TEXT, "projection_size": 32}
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))
    for name, parameter in model.named_parameters():
        # Larger than those of transformers, whose texts are all alike at first.
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
        elif "logit" in name:
            nn.init.constant_(parameter, 1.5)
    model.eval().save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", END)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    return model


def expected(model: nn.Module, kind: str, texts: list[str], pixels: torch.Tensor, folder: Path) -> np.ndarray:
    """transformers' own logits of the pictures for the texts, read by its own tokenizer."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>")
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 12}
    read = tokenizer(texts, return_tensors="pt", **padding)
    mask = {"attention_mask": read["attention_mask"]} if kind == "clip" else {}
    with torch.inference_mode():
        return model(input_ids=read["input_ids"], pixel_values=pixels, **mask).logits_per_image.numpy()


@pytest.mark.parametrize(("kind", "prompt"), [("clip", None), ("siglip", "a sketch of a {}.")])
def test_the_logits_are_those_of_the_whole_model_for_the_classes_texts(kind, prompt, tmp_path):
    model = saved(tmp_path / "saved", kind)
    query = "?classes=cat,dog,barn owl" + (f"&prompt={prompt}" if prompt else "")

    imported = import_source(f"{tmp_path / 'saved'}{query}", tmp_path / "bundle")

    bundle = ModelBundle.load(tmp_path / "bundle")
    samples = bundle.preprocessing.noise(3)
    texts = [(prompt or "a photo of a {}.").replace("{}", name) for name in NAMES]
    wanted = expected(model, kind, texts, bundle.preprocessing(torch.from_numpy(samples)), tmp_path / "saved")
    assert wanted.std(axis=1).min() > 0.01
    assert np.abs(bundle.predict_logits(samples) - wanted).max() < 1e-5
    assert imported.difference < 1e-5
    assert bundle.classes == ("cat", "dog", "barn owl")
    assert (bundle.provenance["head"], bundle.provenance["prompt"]) == ("trained", prompt or "a photo of a {}.")
    assert len(bundle.network.stages) >= 3
    assert not [name for name in bundle.network.state_dict() if "text" in name]


def test_a_picture_is_told_without_any_label_and_the_model_is_exported_as_every_other(tmp_path):
    saved(tmp_path / "saved", "clip")
    model = hs.load(f"{tmp_path / 'saved'}?classes=cat,dog,barn owl")

    table = model.predict(PHOTOGRAPHS[0])

    assert table["label"].item() in NAMES
    assert table[[f"p_{name}" for name in NAMES]].sum(axis=1).item() == pytest.approx(1)
    for format in ("torch", "onnx"):
        place = tmp_path / ("out.onnx" if format == "onnx" else "out")
        assert export(model.bundle, place, format=format, digest=model.digest).difference < 1e-5
    back = load_source(str(tmp_path / "out"))
    samples = back.preprocessing.noise(2)
    assert np.abs(back.predict_logits(samples) - model.bundle.predict_logits(samples)).max() < 1e-5


def test_zero_transfer_tells_a_targets_classes_by_their_names_alone(renamed, carry, tmp_path):
    saved(tmp_path / "saved", "clip")
    source = load_source(f"{tmp_path / 'saved'}?classes=cat,{','.join(reversed(renamed.classes))}")
    assert renamed.classes == ("eight", "five", "three")

    result = carry(source, renamed, "zero")

    samples = renamed.split("test").samples
    expected = source.predict_logits(samples)[:, [source.classes.index(name) for name in renamed.classes]]
    assert expected.std(axis=1).min() > 0.001
    assert result.params["head"] == "source"
    assert np.abs(result.bundle.predict_logits(samples) - expected).max() < 1e-6


def test_a_pin_holds_the_texts_too(tmp_path):
    saved(tmp_path / "saved", "clip")
    pins = [
        pin_source(f"{tmp_path / 'saved'}{query}")
        for query in ("", "?classes=cat,dog", "?classes=dog,cat", "?classes=cat,dog&prompt=a sketch of a {}.")
    ]
    assert len({pin.partition("#")[2] for pin in pins}) == 4
    assert load_source(pins[3]).classes == ("cat", "dog")
    assert "?classes=cat,dog&prompt=a%20sketch" in pins[3]
    assert load_source(pins[0]).classes == ()


def test_names_with_commas_and_marks_come_back_from_a_reference():
    prompts = Prompts(("owl, barn", "a&b=c", "Käse #1"), "eine {}?")
    assert split_prompts(with_prompts("hf://a/b", prompts)) == ("hf://a/b", prompts)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?classes=cat", "two or more different names"),
        ("?classes=cat,cat", "two or more different names"),
        ("?classes=cat,dog&prompt=a photo", r"has no \{\}, which stands for a class"),
    ],
)
def test_classes_and_prompts_that_ask_nothing_are_refused(query, told, tmp_path):
    with pytest.raises(InputError, match=told):
        pin_source(f"{tmp_path}{query}")


def test_what_has_no_texts_says_so(tmp_path):
    folder = tmp_path / "saved"
    saved(folder, "clip")
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        load_source(f"{folder}?classes=cat,dog")
    for damaged in ("{", json.dumps({"version": "1.0"})):
        (folder / "tokenizer.json").write_text(damaged)
        with pytest.raises(InputError, match=r"tokenizer\.json cannot be used"):
            load_source(f"{folder}?classes=cat,dog")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="classes can be asked of clip and siglip"):
        load_source(f"{folder}?classes=cat,dog")
    with pytest.raises(InputError, match=r"leave .*classes out"):
        load_source("timm://test_vit?classes=cat,dog")
