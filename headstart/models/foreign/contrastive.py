"""CLIP and SigLIP as classifiers without a label: the embeddings of texts become the weights of a linear head."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InputError, first_line, shortened
from headstart.models.contrastive import KINDS, architecture_of, as_network, init_tower
from headstart.models.foreign import Original
from headstart.models.foreign.card import of_processor
from headstart.models.reference import Prompts
from headstart.models.transformers import configuration, settings_of

_LARGEST_TOKENIZER = 64 * 2**20
_AT_ONCE = 256
# SigLIP has learned from texts of this length, padded.
_PADDED = "siglip"


@dataclass(frozen=True)
class TokenizerFiles:
    """The path of tokenizer.json, and the content of tokenizer_config.json."""

    path: Path | None
    config: Mapping[str, Any]

    @property
    def filler(self) -> str | None:
        """The token that fills up short texts, if it is named."""
        token = self.config.get("pad_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        return token if isinstance(token, str) else None


def of_config(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    processor: Mapping[str, Any] | None,
    tokenizer: TokenizerFiles,
    prompts: Prompts,
    *,
    at: str,
    facts: Mapping[str, Any],
) -> Original:
    """Return the classifier of pictures whose logits are the whole model's `logits_per_image` for the prompts' texts.

    Raises:
        InputError: it is no model of pictures and texts, it would run code, its tokenizer is not there, or the weights
            are another model's.
    """
    if "auto_map" in config:
        raise InputError(
            f"{at}: config.json asks for code of its repository (auto_map), and none is run; choose another."
        )
    kind = config.get("model_type")
    if kind not in KINDS:
        raise InputError(
            f"{at} is a model of the type {shortened(str(kind))}, and classes can be asked of {' and '.join(KINDS)}; "
            "leave ?classes= out, or choose another."
        )
    if tokenizer.path is None:
        raise InputError(f"{at} has no tokenizer.json, by which texts are read; save its tokenizer there too.")
    _, settings = settings_of(config)
    whole = _filled(kind, configuration(kind, settings), state, at)
    texts = _ids(tokenizer, prompts.texts, whole.config.text_config, padded=kind == _PADDED, at=at)
    with torch.inference_mode():
        embedded = torch.cat([_embedded(whole, *(each[i : i + _AT_ONCE] for each in texts)) for i in _starts(texts[0])])
        weight, bias = whole.logit_scale.exp() * embedded, getattr(whole, "logit_bias", torch.zeros(1))
    tower = init_tower(kind, whole.config, len(prompts.classes))
    given = {name: tensor for name, tensor in whole.state_dict().items() if name in tower.state_dict()}
    head = {"classifier.weight": weight.clone(), "classifier.bias": bias.detach().expand(len(weight)).clone()}
    tower.load_state_dict({**given, **head})
    return Original(
        architecture=architecture_of(kind, settings),
        preprocessing=of_processor(processor, whole.config.vision_config.to_dict(), at=at),
        classes=prompts.classes,
        network=lambda: as_network(tower, classes=len(prompts.classes)),
        call=lambda pixels: _logits(whole, pixels, texts),
        head=True,
        name=kind,
        left_out=("text_model", "text_projection"),
        facts={"prompt": prompts.prompt, **facts},
    )


def _filled(kind: str, config: Any, state: dict[str, Tensor], at: str) -> Any:
    """transformers' whole model with the weights, in eval mode."""
    import transformers

    made = getattr(transformers, KINDS[kind])
    with torch.device("meta"):
        expected = sum(parameter.numel() for parameter in made(config).parameters())
    held = sum(tensor.numel() for tensor in state.values())
    # Before memory is taken for it.
    if expected > held + 2**20:
        raise InputError(
            f"{at}: config.json describes {expected:,} weights, and the files hold {held:,}; copy both again."
        )
    try:
        with torch.random.fork_rng(devices=[]):
            model, found = made.from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True, dtype=torch.float32
            )
    # Foreign names and shapes meet the library's own conversions here.
    except Exception as error:
        raise InputError(f"{at} cannot be read by transformers: {shortened(str(error), 200)}") from None
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{at} does not hold the weights of its config.json: {len(missing)} tensors are missing, "
            f"{shortened(missing[0], 80)} among them; copy it again."
        )
    return model.eval()


def _ids(files: TokenizerFiles, texts: list[str], config: Any, *, padded: bool, at: str) -> tuple[Tensor, Tensor]:
    """The texts' tokens (N, L), and a mask (N, L) that is 0 where a text has ended."""
    from tokenizers import Tokenizer

    path = files.path
    try:
        assert path is not None  # noqa: S101 (a model without is refused)
        if path.stat().st_size > _LARGEST_TOKENIZER:
            raise InputError(f"{at}: tokenizer.json is larger than 64 MB, which none is; copy it again.")
        tokenizer = Tokenizer.from_file(str(path))
        longest = int(config.max_position_embeddings)
        tokenizer.no_padding()
        tokenizer.enable_truncation(longest)
        found = [encoded.ids for encoded in tokenizer.encode_batch(texts)]
    except InputError:
        raise
    except Exception as error:  # of the library's own kinds
        raise InputError(f"{at}: tokenizer.json cannot be used ({first_line(error)}); copy it again.") from None
    if any(not ids or max(ids) >= config.vocab_size for ids in found):
        raise InputError(f"{at}: tokenizer.json is that of another model; copy it again.")
    length = longest if padded else max(map(len, found))
    filler = tokenizer.token_to_id(files.filler) if files.filler else None
    filler = int(config.pad_token_id or 0) if filler is None else filler
    ids = torch.tensor([each + [filler] * (length - len(each)) for each in found])
    mask = torch.tensor([[1] * len(each) + [0] * (length - len(each)) for each in found])
    # Padding is part of what SigLIP has learned to read.
    return ids, torch.ones_like(mask) if padded else mask


def _starts(ids: Tensor) -> range:
    return range(0, len(ids), _AT_ONCE)


def _embedded(whole: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Texts' embeddings (N, D) of length 1."""
    found = whole.get_text_features(input_ids=ids, attention_mask=mask)
    vectors: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return vectors / vectors.norm(p=2, dim=-1, keepdim=True)


def _logits(whole: nn.Module, pixels: Tensor, texts: tuple[Tensor, Tensor]) -> Tensor:
    logits: Tensor = whole(input_ids=texts[0], attention_mask=texts[1], pixel_values=pixels).logits_per_image
    return logits
