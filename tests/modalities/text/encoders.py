"""Tiny encoders as transformers saves them, with a tokenizer of a few words."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.modalities.text.corpus import COMMON, WORDS

SIZES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 32},
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
}


def vocabulary() -> list[str]:
    words = {word for topic in WORDS.values() for word in topic} | set(COMMON)
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *sorted(words)]


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words, which is set to fill up texts, as those of sentence-transformers are."""
    ids = {word: number for number, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(folder / "tokenizer.json"))


def write(folder: Path, kind: str, *, pool: str | None = None, head: bool = False, **settings: object) -> Path:
    """A randomly initialised encoder of a type, with a classifier on it if `head`."""
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=len(vocabulary()) + 3, max_position_embeddings=50, pad_token_id=0, **SIZES[kind], **settings
    )
    build = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    model = build.from_config(config)
    for name, tensor in model.named_parameters():
        # As drawn, norms have weights of 1 and biases of 0, which would hide one that was taken for another.
        if "norm" in name.lower() or "bias" in name:
            torch.nn.init.normal_(tensor, mean=float("weight" in name), std=0.2)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    if pool:
        (folder / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{name}": name.startswith(pool) for name in ("cls_token", "mean_tokens", "max_tokens")}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    return folder
