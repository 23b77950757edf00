"""Encoders of texts that `save_pretrained` wrote: BERT, DistilBERT, RoBERTa and what has their structure, with
tokenizer.json beside the weights; sentence-transformers' folders say how the tokens' states are pooled.

Their weights become those of headstart's own encoder, so that a bundle needs transformers no more. The embedding of the
first token type, which every token of a single text has, is added to the positions'.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.errors import InputError, shortened
from headstart.modalities.batch import Batch
from headstart.modalities.text.preprocessing import LARGEST_TOKENIZER, Tokens, check_ids, plain_json
from headstart.modalities.text.section import TextInput
from headstart.models.architectures import build_network
from headstart.models.foreign import Original
from headstart.models.network import Network
from headstart.models.settings import with_settings
from headstart.models.token_encoder import Pool, Shape

_SHOWN = 3
# More than any model knows, as transformers writes for "no limit".
_NO_LIMIT = 2**20
_POOLS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first", "pooling_mode_max_tokens": "max"}

TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""What decides how a model reads and pools, beside its configuration and weights."""


@dataclass(frozen=True)
class _Family:
    """Where a configuration and a state dict have what an encoder is made of. `shift` is the number of positions before
    the first one, from the configuration; `layers` begins the names of layers, and `parts` are those within one."""

    keys: Mapping[str, str]
    prefixes: tuple[str, ...]
    layers: str
    parts: Mapping[str, str]
    shift: Callable[[Mapping[str, Any]], int] = lambda config: 0


_BERT_KEYS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
}
_BERT_PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "forward_block.up": "intermediate.dense",
    "forward_block.down": "output.dense",
    "forward_norm": "output.LayerNorm",
}
_BERT = _Family(_BERT_KEYS, ("bert.",), "encoder.layer.", _BERT_PARTS)
# RoBERTa numbers positions from the padding token's number on.
_ROBERTA = _Family(
    _BERT_KEYS,
    ("roberta.", "camembert."),
    "encoder.layer.",
    _BERT_PARTS,
    lambda config: int(config.get("pad_token_id", 1)) + 1,
)
_DISTILBERT = _Family(
    {"width": "dim", "layers": "n_layers", "heads": "n_heads", "hidden": "hidden_dim", "activation": "activation"},
    ("distilbert.",),
    "transformer.layer.",
    {
        "attention.query": "attention.q_lin",
        "attention.key": "attention.k_lin",
        "attention.value": "attention.v_lin",
        "attention.output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "forward_block.up": "ffn.lin1",
        "forward_block.down": "ffn.lin2",
        "forward_norm": "output_layer_norm",
    },
)
FAMILIES = {
    "bert": _BERT,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
"""By the model type of a config.json."""

# The configurations' own defaults, which older files leave out.
_DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "activation": "gelu",
}  # fmt: skip


def of_config(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    find: Callable[[str], Path | None],
    *,
    at: str,
    facts: Mapping[str, Any],
) -> Original:
    """Return the encoder that a config.json describes, with the weights of a state dict; `find` gives the other files
    of its folder. Classifiers and language models' heads are left out.

    Raises:
        InputError: it has no tokenizer.json, a structure that is not BERT's, or the weights are another model's.
    """
    family = FAMILIES[str(config["model_type"])]
    named = _without_prefix(state, family)
    shape, positions = _shape(config, named, family, find, at)
    with torch.device("meta"):
        expected = build_network(with_settings("transformer", asdict(shape)), classes=0, channels=1).state_dict()
    names = _names(expected, family)
    weights = _weights(shape, named, names, expected, positions, at)
    vocabulary = len(weights["stages.0.0.tokens.weight"])
    tokenizer = _tokenizer(find, vocabulary, at)
    most = _longest(find, shape.positions, at)
    settings = {key: value for key, value in asdict(shape).items() if value != getattr(Shape(), key)}
    architecture = with_settings("transformer", settings)
    used = {*(name for name, _ in names), "embeddings.token_type_embeddings.weight"}

    def network() -> Network:
        built = build_network(architecture, classes=0, channels=vocabulary)
        head = {name: tensor for name, tensor in built.state_dict().items() if name.startswith("head.")}
        built.load_state_dict({**weights, **head})
        return built

    return Original(
        architecture=architecture,
        preprocessing=Tokens(TextInput(length=min(4096, max(8, most))), tokenizer, vocabulary, most),
        classes=(),
        network=network,
        call=lambda batch: _by_transformers(config, state, batch, shape.pool, at),
        head=False,
        name=str(config["model_type"]),
        modality="text",
        left_out=tuple(sorted({name.partition(".")[0] for name in named if name not in used and _is_weight(name)})),
        facts=facts,
    )


def _shape(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    family: _Family,
    find: Callable[[str], Path | None],
    at: str,
) -> tuple[Shape, Tensor]:
    """The structure, and the embedding of its positions, float32 (positions, width)."""
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise InputError(f"{at} is no encoder with learned positions, as BERT is; choose another model.")
    positions = state.get("embeddings.position_embeddings.weight")
    if positions is None or positions.ndim != 2:
        raise InputError(f"{at} does not hold the weights of its config.json: positions are missing; copy it again.")
    try:
        positions = positions[family.shift(config) :]
        values = {key: config.get(name, _DEFAULTS[name]) for key, name in family.keys.items()}
        # The files' own number of layers: a configuration alone could ask for a network of any size.
        if f"{family.layers}{int(values['layers']) - 1}.{family.parts['forward_block.down']}.weight" not in state:
            raise ValueError(f"it has no layer {values['layers']}")
        return Shape(
            **values,
            positions=len(positions),
            norm="post",
            pool=_pool(find, at),  # type: ignore[arg-type]
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
        ), positions
    except (TypeError, ValueError) as error:
        raise InputError(f"{at}: config.json describes no encoder as BERT is: {shortened(str(error), 150)}.") from None


def _pool(find: Callable[[str], Path | None], at: str) -> str:
    """How sentence-transformers pools; the mean where nothing is said, as frozen features of it are better than those
    of the first token (Reimers and Gurevych 2019, "Sentence-BERT")."""
    path = find("1_Pooling/config.json")
    if path is None:
        return "mean"
    content = _json(path, at)
    asked = [key for key, value in content.items() if key.startswith("pooling_mode_") and value]
    # Newer versions say it in a word.
    word = {"cls": "first"}.get(str(content.get("pooling_mode")), content.get("pooling_mode"))
    if not asked and word in _POOLS.values():
        return str(word)
    if len(asked) != 1 or asked[0] not in _POOLS:
        raise InputError(
            f"{at} pools by {', '.join(asked) or word}, and one of mean, cls and max is read; choose another."
        )
    return _POOLS[asked[0]]


def _names(expected: Mapping[str, Tensor], family: _Family) -> list[tuple[str, str]]:
    """The names of all tensors but the positions', theirs and ours; `expected` are ours."""
    pairs = [("embeddings.word_embeddings.weight", "stages.0.0.tokens.weight")]
    pairs += [(f"embeddings.LayerNorm.{part}", f"stages.0.0.norm.{part}") for part in ("weight", "bias")]
    layers = [name.removesuffix(".attention.query.weight") for name in expected if ".query.weight" in name]
    for number, ours in enumerate(layers):
        for own, their in family.parts.items():
            pairs += [
                (f"{family.layers}{number}.{their}.{part}", f"{ours}.{own}.{part}") for part in ("weight", "bias")
            ]
    return pairs


def _weights(
    shape: Shape,
    state: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
    expected: Mapping[str, Tensor],
    positions: Tensor,
    at: str,
) -> dict[str, Tensor]:
    """The tensors by the names of headstart's own encoder, of which `expected` has the shapes and `pairs` are `_names`.
    InputError if one is missing or of another shape."""
    types = state.get("embeddings.token_type_embeddings.weight")
    words = state.get(pairs[0][0])
    wrong = [
        theirs
        for theirs, ours in pairs
        if theirs not in state or (state[theirs].shape != expected[ours].shape and theirs != pairs[0][0])
    ]
    if wrong or words is None or words.shape[1:] != (shape.width,) or positions.shape != (shape.positions, shape.width):
        raise InputError(
            f"{at} does not hold the weights of its config.json: {len(wrong)} tensors are missing or of another shape, "
            f"{', '.join(shortened(name, 80) for name in wrong[:_SHOWN]) or 'embeddings'} among them; copy it again."
        )
    if types is not None:
        if types.shape[1:] != (shape.width,) or not len(types):
            raise InputError(f"{at}: the embedding of token types is of another width; copy it again.")
        positions = positions + types[0]
    return {**{ours: state[theirs] for theirs, ours in pairs}, "stages.0.0.positions.weight": positions.contiguous()}


def _without_prefix(state: Mapping[str, Tensor], family: _Family) -> dict[str, Tensor]:
    """The tensors under their names in the encoder alone; older files call a norm's weight gamma and its bias beta."""
    found = {}
    for name, tensor in state.items():
        for prefix in family.prefixes:
            name = name.removeprefix(prefix)
        found[name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    return found


def _is_weight(name: str) -> bool:
    return not name.startswith("embeddings.")


def _tokenizer(find: Callable[[str], Path | None], vocabulary: int, at: str) -> str:
    path = find("tokenizer.json")
    if path is None:
        raise InputError(
            f"{at} has no tokenizer.json, by which texts are read; save its fast tokenizer there too "
            "(AutoTokenizer.from_pretrained(…).save_pretrained(…))."
        )
    if path.stat().st_size > LARGEST_TOKENIZER:
        raise InputError(f"{at}: tokenizer.json is larger than 32 MB; choose a model with a smaller one.")
    try:
        content = plain_json(path.read_text(encoding="utf-8"))
        check_ids(content, vocabulary)
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{at}: {error}") from None
    return content


def _longest(find: Callable[[str], Path | None], positions: int, at: str) -> int:
    """The number of tokens that the model reads: as sentence-transformers or the tokenizer says, and its positions
    allow."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = find(name)
        value = _json(path, at).get(key) if path else None
        if isinstance(value, int | float) and 0 < value < _NO_LIMIT:
            return min(int(value), positions)
    return positions


def _json(path: Path, at: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < LARGEST_TOKENIZER else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{at}: {path.name} is no JSON object; copy it again.")
    return content


def _by_transformers(
    config: Mapping[str, Any], state: Mapping[str, Tensor], batch: Batch, pool: str, at: str
) -> Tensor:
    """What transformers' own encoder makes of a batch, pooled."""
    from headstart.models.transformers import auto_class

    auto_class()
    from transformers import AutoConfig, AutoModel

    plain = {key: value for key, value in config.items() if key not in ("model_type", "auto_map", "architectures")}
    try:
        described = AutoConfig.for_model(str(config["model_type"]), **plain)
        with torch.random.fork_rng(devices=[]):
            model: Any = type(AutoModel.from_config(described, trust_remote_code=False)).from_pretrained(
                None, config=described, state_dict=dict(state), dtype=torch.float32
            )
    # Foreign names and shapes meet the library's own conversions here.
    except Exception as error:
        raise InputError(f"{at} cannot be read by transformers: {shortened(str(error), 200)}") from None
    ids, mask = batch.tensors["ids"], batch.tensors["mask"]
    states = model.eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    pooled: Tensor = Pool(pool)(Batch({"states": states, "mask": mask}))
    return pooled
