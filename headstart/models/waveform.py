"""Networks of transformers that read waveforms: `waveform/wav2vec2?hidden_size=384`, HuBERT, data2vec, WavLM, Whisper's
encoder and the audio spectrogram transformer.

wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), data2vec (Baevski et al. 2022) and WavLM (Chen et al. 2022)
read the waveform itself: convolutions, then transformer layers. A recording's result is that of the model on it alone,
without padding, whatever else is in the batch. The audio spectrogram transformer (Gong et al. 2021) reads a filter bank
of a fixed length, which is part of the network here, and so is the spectrogram that Whisper's encoder (Radford et al.
2022) reads, of 30 seconds that silence fills up. Requires the extra `headstart[transformers]`. Settings are those
of the model's configuration that are not its defaults, and of its feature extractor `normalize`, or `mean` and `std`;
`projected` is false without a layer before the head.
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from headstart.errors import InputError, first_line
from headstart.modalities.batch import Batch
from headstart.modalities.waveform.filter_bank import HOP, filter_bank, frames_of
from headstart.modalities.waveform.log_mel import log_mel
from headstart.models.network import Network, linear_head
from headstart.models.settings import check_settings, split_settings, with_settings
from headstart.models.tracing import NoHead, traced_network
from headstart.models.transformers import auto_class, known_settings

PREFIX = "waveform/"
SPECTROGRAM = "audio-spectrogram-transformer"
ENCODERS = ("data2vec-audio", "hubert", "wav2vec2", "wavlm")
WHISPER = "whisper"
KINDS = (SPECTROGRAM, *ENCODERS, WHISPER)
"""Model types of transformers that are read."""

_OWN: dict[str, dict[str, Any]] = {
    SPECTROGRAM: {"mean": -4.2677393, "std": 4.5689974},
    **{kind: {"normalize": True, "projected": True} for kind in ENCODERS},
    WHISPER: {"projected": True},
}
# Freezing and learning rates per stage need a handful of them, as networks for pictures have.
_STAGES = 4
_MOST_FRAMES, _MOST_MELS = 3000, 256
# Frames of a spectrogram for each state of Whisper's encoder.
FRAMES_A_STATE = 2


def waveform_network(name: str, *, classes: int) -> Network:
    """Build a network of transformers for waveforms, randomly initialised, as stages and a linear head.

    Raises:
        InputError: transformers is not installed, has no such model, or it has no such settings.
    """
    kind, settings = split_settings(name)
    own, settings = split_own(kind, settings)
    config = configuration(kind, settings)
    config.num_labels = max(classes, 1)
    try:
        model = model_class(kind)(config)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"transformers cannot build {kind} with {settings}: {first_line(error)}") from error
    # The classifier that transformers builds expects the layer before it.
    network = as_network(model, kind, own, classes=classes, has_head=own.get("projected", True))
    network.replace_head(classes)
    return network


def model_class(kind: str) -> Any:
    """Return transformers' class of classifiers of the model type."""
    auto_class()
    import transformers

    return {
        SPECTROGRAM: transformers.ASTForAudioClassification,
        "data2vec-audio": transformers.Data2VecAudioForSequenceClassification,
        "hubert": transformers.HubertForSequenceClassification,
        "wav2vec2": transformers.Wav2Vec2ForSequenceClassification,
        "wavlm": transformers.WavLMForSequenceClassification,
        WHISPER: transformers.WhisperForAudioClassification,
    }[kind]


def configuration(kind: str, settings: Mapping[str, Any]) -> Any:
    """Return transformers' configuration with settings that were checked.

    Raises:
        InputError: the model type is not read, has no such settings, or a structure that is not read.
    """
    auto_class()
    from transformers import AutoConfig

    if kind not in KINDS:
        raise InputError(f"unknown architecture {PREFIX}{kind[:80]!r}; known are {', '.join(KINDS)}")
    unknown = sorted(settings.keys() - known_settings(AutoConfig.for_model(kind).to_dict(), settings).keys())
    if unknown:
        raise InputError(f"{PREFIX}{kind} has no setting {', '.join(unknown)}; remove it")
    check_settings(settings, f"{PREFIX}{kind}")
    try:
        config = AutoConfig.for_model(kind, **settings)
    except Exception as error:  # its validators raise what they like
        raise InputError(f"{PREFIX}{kind} cannot have the settings {dict(settings)}: {first_line(error)}") from error
    _check_structure(kind, config)
    # The mask that stages hand on is of this form; WavLM has an attention of its own.
    config._attn_implementation = "eager" if kind == "wavlm" else "sdpa"
    return config


def _check_structure(kind: str, config: Any) -> None:
    if kind in (SPECTROGRAM, WHISPER):
        frames = frames_read(kind, config)
        if not (1 <= frames <= _MOST_FRAMES and 1 <= config.num_mel_bins <= _MOST_MELS):
            raise InputError(
                f"{PREFIX}{kind} reads {frames} frames of {config.num_mel_bins} bands, and up to {_MOST_FRAMES} of "
                f"{_MOST_MELS} are; choose another model"
            )
    for key, reason in (
        ("use_weighted_layer_sum", "answers by a sum over all of its layers"),
        ("add_adapter", "has an adapter after its layers"),
        ("conv_pos_batch_norm", "normalises over the batch"),
        ("adapter_attn_dim", "has adapters for languages"),
    ):
        if getattr(config, key, None):
            raise InputError(f"{PREFIX}{kind} with {key} {reason}, which is not read; choose the plain encoder")


def frames_read(kind: str, config: Any) -> int:
    """Return how many frames of a spectrogram a network reads of each recording."""
    return int(FRAMES_A_STATE * config.max_source_positions if kind == WHISPER else config.max_length)


def settings_of(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not defaults, from the content of a config.json; others' keys are left out."""
    auto_class()
    from transformers import AutoConfig

    settings = known_settings(AutoConfig.for_model(kind).to_dict(), config)
    # What only training by its own library uses.
    settings = {key: value for key, value in settings.items() if not key.startswith(_OF_PRETRAINING)}
    check_settings(settings, f"{PREFIX}{kind}")
    return settings


_OF_PRETRAINING = (
    "apply_spec", "codevector", "contrastive", "ctc_", "diversity", "feat_quantizer", "final_dropout", "gradient",
    "layerdrop", "mask_", "num_codevector", "num_negatives", "proj_codevector", "tdnn_", "tokenizer_class",
    "xvector", "vocab_size", "bos_token", "eos_token", "pad_token",
    # Of a decoder.
    "begin_suppress", "decoder_", "encoder_layerdrop", "forced_decoder", "max_target_positions", "median_filter",
    "scale_embedding", "suppress_tokens",
)  # fmt: skip


def architecture_of(kind: str, settings: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return the name that `build_network` takes."""
    unusual = {key: value for key, value in own.items() if value != _OWN[kind][key]}
    return with_settings(f"{PREFIX}{kind}", {**settings, **unusual})


def split_own(kind: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the feature extractor, whole, and those of the model's configuration.

    Raises:
        InputError: one is of the wrong type, or the deviation is not above 0.
    """
    usual: dict[str, Any] = _OWN.get(kind, {})
    own = {**usual, **{key: value for key, value in settings.items() if key in usual}}
    for key, value in own.items():
        right = isinstance(value, bool) if isinstance(usual[key], bool) else type(value) in (int, float)
        if not right or (key == "std" and not value > 0):
            raise InputError(f"{PREFIX}{kind} cannot have {key}={value!r}; correct it")
    return own, {key: value for key, value in settings.items() if key not in usual}


def as_network(model: Any, kind: str, own: Mapping[str, Any], *, classes: int, has_head: bool) -> Network:
    """Return a model of transformers as a `Network`, whose modules it shares.

    Raises:
        InputError: its classifier is no linear layer on a vector.
    """
    if kind == SPECTROGRAM:
        return _spectrogram_network(model, own, classes=classes, has_head=has_head)
    front, layers, norm, groups_of = _parts(model, kind, own)
    width = model.config.classifier_proj_size if own["projected"] else model.config.hidden_size
    groups = min(_STAGES, len(layers))
    bounds = [len(layers) * group // groups for group in range(groups + 1)]
    stages = [front, *(groups_of(layers[low:high], layers[0]) for low, high in itertools.pairwise(bounds))]
    last = Pooled(norm, model.projector if own["projected"] else None)
    stages[-1] = nn.Sequential(stages[-1], last)
    head = linear_head(width, classes)
    if has_head and classes:
        head.load_state_dict(model.classifier.state_dict())
    return Network(stages, head).train(model.training)


def _parts(
    model: Any, kind: str, own: Mapping[str, Any]
) -> tuple[nn.Module, list[nn.Module], nn.Module | None, Callable[[Sequence[nn.Module], nn.Module], nn.Module]]:
    """What comes before an encoder's layers, these, the norm after them, and what makes a stage of some of them."""
    if kind == WHISPER:
        inner = model.encoder
        return Spectrogram(inner, whole=own["projected"]), list(inner.layers), inner.layer_norm, UnmaskedLayers
    inner = getattr(model, model.base_model_prefix)
    # data2vec has several, without norms.
    positions = getattr(inner.encoder.pos_conv_embed, "conv", None)
    if positions is not None and parametrize.is_parametrized(positions):
        # A norm and a direction: of use to a training of months from nothing, and an obstacle to what reads weights.
        parametrize.remove_parametrizations(positions, "weight")
    stable = bool(getattr(model.config, "do_stable_layer_norm", False))
    front = Convolutions(inner, normalize=own["normalize"], norm_first=stable)
    norm = inner.encoder.layer_norm if stable else None
    return front, list(inner.encoder.layers), norm, RelativeLayers if kind == "wavlm" else Layers


def _spectrogram_network(model: Any, own: Mapping[str, Any], *, classes: int, has_head: bool) -> Network:
    frames, mels = model.config.max_length, model.config.num_mel_bins
    front = FilterBank(mels, frames, own["mean"], own["std"])

    def example(count: int) -> Tensor:
        return torch.rand(count, frames, mels, generator=torch.Generator().manual_seed(count))

    try:
        network = traced_network(
            model,
            [example],
            classes=classes,
            has_head=has_head,
            call=lambda model, x: model(input_values=x).logits,
        )
    except NoHead as error:
        raise InputError(f"{error} It cannot be a source; choose another model of transformers.") from error
    network.stages[0] = nn.Sequential(front, network.stages[0])
    return network


class FilterBank(nn.Module):
    """`wave`, float32 (N, L), and `mask`, bool (N, L), to the normalised filter bank, float32 (N, frames, mels).

    As the model's own feature extractor does, it takes (v - mean) / (2 · std), where frames after the recording have
    v = 0.
    """

    def __init__(self, mels: int, frames: int, mean: float, std: float) -> None:
        super().__init__()
        self.mels, self.frames, self.mean, self.std = mels, frames, mean, std

    def forward(self, batch: Batch) -> Tensor:
        wave, mask = batch.tensors["wave"], batch.tensors["mask"]
        values = filter_bank(wave, self.mels, self.frames)
        inside = torch.arange(self.frames, device=wave.device) < frames_of(mask.sum(dim=1))[:, None]
        return (values * inside.unsqueeze(2) - self.mean) / (2 * self.std)


class Convolutions(nn.Module):
    """`wave`, float32 (N, L), and `mask`, bool (N, L), to `states`, float32 (N, T, width), and their `mask`.

    The waveform is normalised to a mean of 0 and a variance of 1 if the model was trained so; convolutions shorten it,
    a linear layer gives it the width of the encoder, to which a convolution of the positions is added.
    """

    def __init__(self, inner: Any, *, normalize: bool, norm_first: bool) -> None:
        super().__init__()
        self.normalize = normalize
        self.layers = inner.feature_extractor.conv_layers
        self.projection = inner.feature_projection
        self.positions = inner.encoder.pos_conv_embed
        # Encoders that normalise before blocks do so after the last one.
        self.norm: nn.Module = nn.Identity() if norm_first else inner.encoder.layer_norm
        self.dropout = inner.encoder.dropout

    def forward(self, batch: Batch) -> Batch:
        wave, mask = batch.tensors["wave"], batch.tensors["mask"]
        if self.normalize:
            wave = _normalised(wave, mask)
        states, counts = wave[:, None], mask.sum(dim=1)
        for layer in self.layers:
            states = layer.conv(states)
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            counts = (torch.div(counts - kernel, stride, rounding_mode="floor") + 1).clamp(min=1)
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                states = _group_normalised(states, _inside(states.shape[2], counts), norm)
            elif norm is not None:
                states = norm(states.transpose(1, 2)).transpose(1, 2)
            states = layer.activation(states)
        projected = self.projection(states.transpose(1, 2))
        # wav2vec 2.0's gives what went into it too.
        states = projected[0] if isinstance(projected, tuple) else projected
        mask = _inside(states.shape[1], counts)
        states = states * mask.unsqueeze(2)
        states = states + self._positioned(states, mask)
        return Batch({"states": self.dropout(self.norm(states)), "mask": mask})

    def _positioned(self, states: Tensor, mask: Tensor) -> Tensor:
        layers = getattr(self.positions, "layers", None)
        if layers is None:
            found: Tensor = self.positions(states)
            return found
        found = states.transpose(1, 2)
        for layer in layers:
            # What a layer puts beyond the recording would be read by the next one.
            found = layer(found) * mask.unsqueeze(1)
        return found.transpose(1, 2)


class Spectrogram(nn.Module):
    """`wave`, float32 (N, L), and `mask`, bool (N, L), to `states`, float32 (N, T, width), of Whisper's spectrogram, by
    its two convolutions and with its positions, and their `mask`: all states where they are judged as a `whole`, as the
    model's own classifier does, else those that the recording reaches."""

    positions: Tensor

    def __init__(self, inner: Any, *, whole: bool) -> None:
        super().__init__()
        self.mels, self.states, self.whole = inner.num_mel_bins, inner.max_source_positions, whole
        self.conv1, self.conv2, self.dropout = inner.conv1, inner.conv2, nn.Dropout(inner.dropout)
        # Sines, which no training changes.
        self.register_buffer("positions", inner.embed_positions.weight.detach().clone())

    def forward(self, batch: Batch) -> Batch:
        wave, mask = batch.tensors["wave"], batch.tensors["mask"]
        levels = log_mel(wave * mask, self.mels, FRAMES_A_STATE * self.states)
        states = F.gelu(self.conv2(F.gelu(self.conv1(levels)))).transpose(1, 2)
        reached = torch.div(mask.sum(dim=1) - 1, FRAMES_A_STATE * HOP, rounding_mode="floor") + 1
        reached = torch.full_like(reached, self.states) if self.whole else reached.clamp(min=1)
        return Batch({"states": self.dropout(states + self.positions), "mask": _inside(self.states, reached)})


class UnmaskedLayers(nn.Module):
    """A group of Whisper's layers, whose attention reads all states: `states` and `mask` to the same."""

    def __init__(self, layers: Sequence[nn.Module], first: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, batch: Batch) -> Batch:
        states = batch.tensors["states"]
        for layer in self.layers:
            found = layer(states, None)
            states = found[0] if isinstance(found, tuple) else found
        return Batch({"states": states, "mask": batch.tensors["mask"]})


class Layers(nn.Module):
    """A group of transformer layers: `states` and `mask` to the same."""

    def __init__(self, layers: Sequence[nn.Module], first: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, batch: Batch) -> Batch:
        states, mask = batch.tensors["states"], batch.tensors["mask"]
        seen = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        for layer in self.layers:
            found = layer(states, attention_mask=seen)
            states = found[0] if isinstance(found, tuple) else found
        return Batch({"states": states, "mask": mask})


class RelativeLayers(nn.Module):
    """A group of WavLM's layers, which add to attention what an embedding of the distance says: `states` and `mask` to
    the same.

    The model has one embedding, in its `first` layer. Each further group has a copy of its own, equal at the start, so
    that a group can be frozen, trained or run without another.
    """

    def __init__(self, layers: Sequence[nn.Module], first: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        own = first is layers[0]
        self.distances = None if own else copy.deepcopy(first.attention.rel_attn_embed)

    def forward(self, batch: Batch) -> Batch:
        states, mask = batch.tensors["states"], batch.tensors["mask"]
        attention: Any = self.layers[0].attention
        embedding = attention.rel_attn_embed if self.distances is None else self.distances
        places = torch.arange(states.shape[1], device=states.device)
        buckets = attention._relative_positions_bucket(places[None] - places[:, None])
        # (N · heads, T, T), as the layers read it.
        bias = embedding(buckets).permute(2, 0, 1).repeat(len(states), 1, 1)
        for layer in self.layers:
            states = layer(states, attention_mask=mask, position_bias=bias)[0]
        return Batch({"states": states, "mask": mask})


class Pooled(nn.Module):
    """`states`, (N, T, width), and `mask` to the mean over the mask, (N, D), after a norm and a linear layer if the
    model has them."""

    def __init__(self, norm: nn.Module | None, projector: nn.Module | None) -> None:
        super().__init__()
        self.norm = nn.Identity() if norm is None else norm
        self.projector = nn.Identity() if projector is None else projector

    def forward(self, batch: Batch) -> Tensor:
        mask = batch.tensors["mask"].unsqueeze(2)
        states: Tensor = self.projector(self.norm(batch.tensors["states"]))
        return (states * mask).sum(dim=1) / mask.sum(dim=1)


def _inside(length: int, counts: Tensor) -> Tensor:
    """Which of `length` places are below each count (N,), bool (N, length)."""
    return torch.arange(length, device=counts.device) < counts[:, None]


def _normalised(wave: Tensor, mask: Tensor) -> Tensor:
    """Waveforms (N, L) with a mean of 0 and a variance of 1 where the mask is, and 0 elsewhere."""
    count = mask.sum(dim=1, keepdim=True)
    centred = (wave - (wave * mask).sum(dim=1, keepdim=True) / count) * mask
    return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()


def _group_normalised(states: Tensor, inside: Tensor, norm: nn.GroupNorm) -> Tensor:
    """States (N, C, T) normalised over the places that are inside, bool (N, T), each channel by itself."""
    kept, states = inside.unsqueeze(1), states.float()
    count = kept.sum(dim=2, keepdim=True)
    mean = (states * kept).sum(dim=2, keepdim=True) / count
    variance = ((states - mean).square() * kept).sum(dim=2, keepdim=True) / count
    return (states - mean) * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]
